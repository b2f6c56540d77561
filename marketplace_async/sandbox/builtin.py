"""The default catalogue of a sandbox: fictional, and always the same."""

from functools import cache
from hashlib import blake2b
from typing import Any, Final

from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.sandbox.catalog import Catalog, CatalogEntry

__all__ = ["builtin_catalog"]

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

# The features of a kind of service. A vendor's add-on has the first 2 to 8 of them.
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

# Name, description, pricing type, features, and the type of each configuration property.
_SERVICES: Final[tuple[tuple[str, str, str | None, str, str], ...]] = (
    ("Call Transcription", "Transcribes recorded calls.", "per minute", _VOICE, "language:string"),
    ("Live Captions", "Transcribes calls in real time.", "per minute", _VOICE, "language:string"),
    ("Voice Sentiment", "Detects the mood of a caller.", "per minute", _VOICE, ""),
    ("Call Summaries", "Summarizes a call.", "per call", _VOICE, "sentences:integer"),
    ("Keyword Spotting", "Finds words in recordings.", "per minute", _VOICE, "keywords:array"),
    ("Noise Removal", "Removes background noise.", "per minute", _VOICE, ""),
    ("Speaker Separation", "Separates the speakers.", "per minute", _VOICE, "speakers:integer"),
    ("Caller Identity", "Identifies the owner of a number.", "per request", _NUMBER, ""),
    ("Carrier Lookup", "Finds the carrier of a number.", "per request", _NUMBER, ""),
    ("Spam Score", "Rates the risk of spam.", "per request", _NUMBER, "threshold:number"),
    ("Number Reputation", "Lists reports about a number.", "per request", _NUMBER, ""),
    ("Business Directory", "Finds businesses.", "per request", _NUMBER, "country:string"),
    ("Porting History", "Lists earlier carriers of a number.", "per request", _NUMBER, ""),
    ("Time Zone", "Finds the time zone of a number.", "free", _NUMBER, ""),
    ("Message Sentiment", "Detects the mood of a message.", "per message", _TEXT, ""),
    ("Translation", "Translates messages.", "per message", _TEXT, "source:string target:string"),
    ("Language Detection", "Detects the language of a message.", "per message", _TEXT, ""),
    ("Profanity Filter", "Masks rude words.", "per message", _TEXT, "words:array mask:string"),
    ("Intent Detection", "Detects what a user wants.", "per message", _TEXT, "intents:array"),
    ("Entity Extraction", "Finds names, dates and amounts.", "per message", _TEXT, ""),
    ("Link Safety", "Checks the links in messages.", "per message", _TEXT, ""),
    ("Image Moderation", "Checks pictures.", "per image", _TEXT, "strict:boolean"),
    ("Fraud Shield", "Rates the risk of fraud.", "per verification", _TRUST, "threshold:number"),
    ("SIM Swap Alert", "Reports recent SIM card changes.", "per request", _TRUST, ""),
    ("Account Takeover Guard", "Detects unusual logins.", "per month", _TRUST, ""),
    ("Address Check", "Verifies postal addresses.", "per request", _TRUST, "country:string"),
    ("Agent Assist", "Suggests replies to agents.", "per seat", _DESK, "knowledge_base:string"),
    ("Ticket Sync", "Synchronizes tasks and tickets.", "per month", _DESK, "endpoint:string"),
    ("Quality Scoring", "Scores conversations.", "per conversation", _DESK, "form:string"),
    ("Skill Routing", "Routes tasks by the skills of agents.", None, _DESK, ""),
)

_VENDORS: Final = (
    "Northlight", "Papaya", "Quillstone", "Brightwater", "Umbra", "Tern & Co", "Halcyon",
    "Ostrich Labs", "Fieldnote", "Copperleaf", "Zwölf",
)  # fmt: skip


@cache
def builtin_catalog() -> Catalog:
    """Return 150 add-ons with two to eight extensions each.

    The first is the sample of Twilio's documentation. The others are fictional, and the same
    in every process.
    """
    return Catalog([_sample(), *map(_entry, range(149))])


def _sample() -> CatalogEntry:
    sid = "XB" + 32 * "a"
    name = "VoiceBase High Accuracy Transcription"
    description = "Automatic Transcription and Keyword Extract..."
    return CatalogEntry(
        AvailableAddOn(sid, name, description, "per minute", _schema("bad_words:boolean")),
        (
            Extension("XF" + 32 * "a", sid, *_FEATURES["voice-incoming"], "voice-incoming"),
            Extension("XF" + 32 * "b", sid, *_FEATURES["voice-recording"], "voice-recording"),
        ),
    )


def _entry(number: int) -> CatalogEntry:
    # The lengths of the tables have no common divisor: no pair of vendor and service repeats.
    vendor = _VENDORS[number % len(_VENDORS)]
    service, description, pricing, features, properties = _SERVICES[number % len(_SERVICES)]
    name = f"{vendor} {service}"
    sid = _sid("XB", name)
    return CatalogEntry(
        AvailableAddOn(sid, name, description, pricing, _schema(properties)),
        tuple(
            Extension(_sid("XF", f"{name}/{feature}"), sid, *_FEATURES[feature], feature)
            for feature in features.split()[: 2 + number % 7]
        ),
    )


def _sid(prefix: str, name: str) -> str:
    return prefix + blake2b(name.encode(), digest_size=16).hexdigest()


def _schema(properties: str) -> dict[str, Any] | None:
    if not properties:
        return None
    types = dict(item.split(":") for item in properties.split())
    return {
        "type": "object",
        "properties": {name: {"type": type_} for name, type_ in types.items()},
        "required": list(types),
    }
