"""The catalogue that a sandbox serves unless told otherwise: invented, and always the same."""

import itertools
from functools import cache
from typing import Any, Final, NamedTuple

from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.sandbox.catalog import Catalog, CatalogEntry, derived_sid

__all__ = ["builtin_catalog"]

_SIZE: Final = 150

# By unique name: the friendly name and the product.
_FEATURES: Final = {
    "voice-incoming": ("Incoming Voice Call", "Programmable Voice"),
    "voice-outgoing": ("Outgoing Voice Call", "Programmable Voice"),
    "voice-recording": ("Voice Recording", "Programmable Voice"),
    "voice-conference-recording": ("Conference Recording", "Programmable Voice"),
    "voice-media-stream": ("Media Stream", "Programmable Voice"),
    "messaging-incoming": ("Incoming Message", "Programmable Messaging"),
    "messaging-outgoing": ("Outgoing Message", "Programmable Messaging"),
    "messaging-whatsapp-incoming": ("Incoming WhatsApp Message", "Programmable Messaging"),
    "lookup-phone-number": ("Phone Number Lookup", "Lookup"),
    "lookup-caller-name": ("Caller Name Lookup", "Lookup"),
    "lookup-line-type": ("Line Type Lookup", "Lookup"),
    "conversations-message": ("Conversation Message", "Conversations"),
    "conversations-participant": ("Conversation Participant", "Conversations"),
    "verify-start": ("Verification Start", "Verify"),
    "verify-check": ("Verification Check", "Verify"),
    "flex-task": ("Flex Task", "Flex"),
    "flex-conversation": ("Flex Conversation", "Flex"),
    "studio-widget": ("Studio Flow Widget", "Studio"),
    "taskrouter-task": ("Task Created", "TaskRouter"),
    "taskrouter-reservation": ("Reservation Accepted", "TaskRouter"),
    "video-room-recording": ("Room Recording", "Video"),
}

_VOICE: Final = (
    "voice-incoming voice-recording voice-conference-recording voice-outgoing "
    "flex-task voice-media-stream studio-widget video-room-recording"
)
_NUMBER: Final = (
    "lookup-phone-number voice-incoming messaging-incoming verify-start "
    "lookup-line-type lookup-caller-name taskrouter-task studio-widget"
)
_TEXT: Final = (
    "messaging-incoming conversations-message messaging-whatsapp-incoming messaging-outgoing "
    "flex-conversation studio-widget taskrouter-task conversations-participant"
)
_TRUST: Final = (
    "verify-start verify-check lookup-phone-number voice-incoming "
    "messaging-incoming lookup-line-type flex-task studio-widget"
)
_DESK: Final = (
    "flex-task flex-conversation taskrouter-task taskrouter-reservation "
    "conversations-participant conversations-message voice-incoming studio-widget"
)


class _Service(NamedTuple):
    name: str
    description: str
    pricing_type: str | None
    features: str
    configuration: str = ""


# A configuration is "name:type" for each property, "!" behind those that are required.
_SERVICES: Final = (
    _Service("Call Transcription", "Turns recorded calls into text.", "per minute", _VOICE,
             "language:string! bad_words:boolean"),
    _Service("Live Captions", "Writes along while people speak.", "per minute", _VOICE,
             "language:string!"),
    _Service("Voice Sentiment", "Hears how a caller feels.", "per minute", _VOICE),
    _Service("Call Summaries", "Says in three sentences what a call was about.", "per call",
             _VOICE, "sentences:integer"),
    _Service("Keyword Spotting", "Finds given words in recordings.", "per minute", _VOICE,
             "keywords:array!"),
    _Service("Noise Removal", "Takes the street out of a recording.", "per minute", _VOICE),
    _Service("Speaker Separation", "Tells who said what.", "per minute", _VOICE,
             "speakers:integer"),
    _Service("Caller Identity", "Names the person or business behind a number.", "per request",
             _NUMBER),
    _Service("Carrier Lookup", "Tells the carrier and country of a number.", "per request",
             _NUMBER),
    _Service("Spam Score", "Rates how likely a number is to be a nuisance.", "per request",
             _NUMBER, "threshold:number!"),
    _Service("Number Reputation", "Knows what others report about a number.", "per request",
             _NUMBER),
    _Service("Business Directory", "Finds the address and trade of a business.", "per request",
             _NUMBER, "country:string"),
    _Service("Porting History", "Tells when a number changed its carrier.", "per request",
             _NUMBER),
    _Service("Time Zone", "Tells what time it is where a number is from.", "free", _NUMBER),
    _Service("Message Sentiment", "Reads how a writer feels.", "per message", _TEXT),
    _Service("Translation", "Translates messages on their way.", "per message", _TEXT,
             "source:string target:string!"),
    _Service("Language Detection", "Tells in which language a message is written.",
             "per message", _TEXT),
    _Service("Profanity Filter", "Marks words that should not be passed on.", "per message",
             _TEXT, "words:array replacement:string"),
    _Service("Intent Detection", "Tells what a writer wants.", "per message", _TEXT,
             "intents:array!"),
    _Service("Entity Extraction", "Finds names, dates and amounts.", "per message", _TEXT),
    _Service("Link Safety", "Checks the links in messages.", "per message", _TEXT),
    _Service("Image Moderation", "Looks at pictures before people do.", "per image", _TEXT,
             "strict:boolean"),
    _Service("Fraud Shield", "Weighs the risk of a verification.", "per verification", _TRUST,
             "threshold:number!"),
    _Service("SIM Swap Alert", "Tells when a SIM card was exchanged lately.", "per request",
             _TRUST),
    _Service("Account Takeover Guard", "Compares a login with those before.", "per month",
             _TRUST),
    _Service("Address Check", "Checks that person and address belong together.", "per request",
             _TRUST, "country:string!"),
    _Service("Agent Assist", "Suggests answers to agents.", "per seat", _DESK,
             "knowledge_base:string!"),
    _Service("Ticket Sync", "Keeps tasks and tickets the same.", "per month", _DESK,
             "endpoint:string! api_version:integer"),
    _Service("Quality Scoring", "Scores conversations by your own form.", "per conversation",
             _DESK, "form:string!"),
    _Service("Skill Routing", "Sends each task to who knows the matter.", None, _DESK),
)  # fmt: skip  # one service reads best as one paragraph

_VENDORS: Final = ("Northlight", "Papaya", "Quillstone", "Brightwater", "Umbra", "Tern & Co",
                   "Halcyon", "Ostrich Labs", "Fieldnote", "Copperleaf", "Zwölf")  # fmt: skip

# The sample of Twilio's own documentation.
_SAMPLE: Final = CatalogEntry(
    AvailableAddOn(
        "XB" + 32 * "a",
        "VoiceBase High Accuracy Transcription",
        "Automatic Transcription and Keyword Extract...",
        "per minute",
        {
            "type": "object",
            "properties": {"bad_words": {"type": "boolean"}},
            "required": ["bad_words"],
        },
    ),
    (
        Extension("XF" + 32 * "a", "XB" + 32 * "a", *_FEATURES["voice-incoming"], "voice-incoming"),
        Extension(
            "XF" + 32 * "b", "XB" + 32 * "a", *_FEATURES["voice-recording"], "voice-recording"
        ),
    ),
)


@cache
def builtin_catalog() -> Catalog:
    """Give 150 add-ons with two to eight extensions each, Twilio's documented sample first.

    Vendors and services are invented. The same at each call, in each process.
    """
    # Stepping through both tables at once gives each service several vendors, never one twice:
    # the lengths have no common divisor.
    pairs = zip(itertools.cycle(_SERVICES), itertools.cycle(_VENDORS), strict=False)
    made = (_entry(service, vendor, n) for n, (service, vendor) in enumerate(pairs))
    return Catalog([_SAMPLE, *itertools.islice(made, _SIZE - 1)])


def _entry(service: _Service, vendor: str, number: int) -> CatalogEntry:
    name = f"{vendor} {service.name}"
    sid = derived_sid("XB", name)
    names = service.features.split()[: 2 + number % 7]
    return CatalogEntry(
        AvailableAddOn(
            sid, name, service.description, service.pricing_type, _schema(service.configuration)
        ),
        tuple(
            Extension(
                derived_sid("XF", name, unique_name), sid, *_FEATURES[unique_name], unique_name
            )
            for unique_name in names
        ),
    )


def _schema(configuration: str) -> dict[str, Any] | None:
    if not configuration:
        return None
    properties = dict(item.rstrip("!").split(":") for item in configuration.split())
    return {
        "type": "object",
        "properties": {name: {"type": type_} for name, type_ in properties.items()},
        "required": [item.split(":")[0] for item in configuration.split() if item.endswith("!")],
    }
