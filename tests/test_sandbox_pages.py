from typing import Any

import pytest

from marketplace_async.sandbox.pages import BadPageError, cut_page

URL = "http://127.0.0.1:8080/v1/AvailableAddOns"


Cut = tuple[list[int], dict[str, Any]]


def cut(total: int, url: str = URL, **query: str) -> Cut:
    indices, meta = cut_page(query, total, url, "available_add_ons")
    return list(indices), meta


def query_of(page_url: str) -> dict[str, str]:
    path, _, query = page_url.partition("?")
    assert path == URL
    return dict(item.split("=") for item in query.split("&"))


def walk(total: int, towards: str, query: dict[str, str]) -> list[Cut]:
    pages = [cut(total, **query)]
    while url := pages[-1][1][towards]:
        pages.append(cut(total, **query_of(url)))
    return pages


def test_a_listing_that_fits_one_page_has_no_neighbours() -> None:
    indices, meta = cut(3)
    assert indices == [0, 1, 2]
    assert meta == {
        "page": 0,
        "page_size": 50,
        "first_page_url": f"{URL}?PageSize=50&Page=0",
        "previous_page_url": None,
        "url": f"{URL}?PageSize=50&Page=0",
        "next_page_url": None,
        "key": "available_add_ons",
    }


def test_an_empty_listing_is_one_empty_page() -> None:
    indices, meta = cut(0)
    assert (indices, meta["next_page_url"], meta["previous_page_url"]) == ([], None, None)


@pytest.mark.parametrize(("total", "size"), [(10, 3), (9, 3), (1, 1), (1000, 999)])
def test_forward_every_item_comes_once_and_in_order(total: int, size: int) -> None:
    pages = walk(total, "next_page_url", {"PageSize": str(size)})
    assert [i for indices, _ in pages for i in indices] == list(range(total))
    assert [meta["page"] for _, meta in pages] == list(range(len(pages)))
    assert all(len(indices) == size for indices, _ in pages[:-1])


@pytest.mark.parametrize(("total", "size"), [(10, 3), (9, 3), (1000, 999)])
def test_backward_the_same_pages_come_in_reverse(total: int, size: int) -> None:
    forward = walk(total, "next_page_url", {"PageSize": str(size)})
    backward = walk(total, "previous_page_url", query_of(forward[-1][1]["url"]))
    assert [indices for indices, _ in backward] == [indices for indices, _ in reversed(forward)]
    assert backward[-1][1]["page"] == 0


def test_the_url_of_a_page_leads_to_that_page() -> None:
    for indices, meta in walk(10, "next_page_url", {"PageSize": "3"}):
        assert cut(10, **query_of(meta["url"])) == (indices, meta)


def test_another_page_size_in_the_middle_neither_skips_nor_repeats() -> None:
    first, meta = cut(10, PageSize="3")
    rest, _ = cut(10, **{**query_of(meta["next_page_url"]), "PageSize": "100"})
    assert first + rest == list(range(10))


def test_a_larger_page_size_on_the_way_back_does_not_overlap() -> None:
    _, meta = cut(10, PageSize="3")
    _, meta = cut(10, **query_of(meta["next_page_url"]))
    back, _ = cut(10, **{**query_of(meta["previous_page_url"]), "PageSize": "100"})
    assert back == [0, 1, 2]


def test_a_token_outlives_items_that_were_removed() -> None:
    _, meta = cut(10, PageSize="8")
    indices, meta = cut(5, **query_of(meta["next_page_url"]))
    assert (indices, meta["next_page_url"]) == ([], None)


@pytest.mark.parametrize(
    ("given", "code"),
    [("0", 20001), ("-1", 20001), ("", 20001), ("ten", 20001), ("1.5", 20001), ("+5", 20001),
     ("٣", 20001), ("9" * 5000, 20001), ("1001", 20007), ("999999999", 20007)],
)  # fmt: skip
def test_a_page_size_outside_of_1_to_1000_is_refused(given: str, code: int) -> None:
    with pytest.raises(BadPageError) as caught:
        cut(10, PageSize=given)
    assert caught.value.code == code


@pytest.mark.parametrize("given", ["1", "1000", "007"])
def test_page_sizes_from_1_to_1000_are_accepted(given: str) -> None:
    assert cut(10, PageSize=given)[1]["page_size"] == int(given)


def test_a_page_beyond_the_first_needs_a_token() -> None:
    with pytest.raises(BadPageError, match="PageToken is required"):
        cut(10, Page="1")


@pytest.mark.parametrize("given", ["-1", "", "one", "0x1"])
def test_a_page_that_is_no_number_is_refused(given: str) -> None:
    with pytest.raises(BadPageError, match="Page must be"):
        cut(10, Page=given)


def token_of(url: str, total: int = 10) -> str:
    _, meta = cut(total, url, PageSize="3")
    return str(meta["next_page_url"]).rpartition("PageToken=")[2]


def test_a_token_does_not_show_its_position() -> None:
    token = token_of(URL)
    assert token.startswith("PA")
    assert int(token[2:18], 16) != 3 != int(token[18:], 16)


@pytest.mark.parametrize("place", range(34))
def test_a_token_changed_at_any_place_is_refused(place: int) -> None:
    token = token_of(URL)
    tampered = token[:place] + ("0" if token[place] != "0" else "1") + token[place + 1 :]
    with pytest.raises(BadPageError, match="Invalid PageToken"):
        cut(10, PageToken=tampered)


@pytest.mark.parametrize("given", ["", "3", "PA3", "PB" + 32 * "0", 34 * "é", "PA" + 32 * "G"])
def test_a_made_up_token_is_refused(given: str) -> None:
    with pytest.raises(BadPageError) as caught:
        cut(10, PageToken=given)
    assert caught.value.code == 21481


def test_a_token_turned_around_is_refused() -> None:
    with pytest.raises(BadPageError):
        cut(10, PageToken=token_of(URL).replace("PA", "PB"))


def test_a_token_of_another_listing_is_refused() -> None:
    foreign = token_of(f"{URL}/XB{32 * 'a'}/Extensions")
    with pytest.raises(BadPageError):
        cut(10, PageToken=foreign)


def test_a_token_holds_behind_another_address_of_the_same_server() -> None:
    token = token_of(URL)
    indices, _ = cut(10, "https://proxy.example/v1/AvailableAddOns", PageToken=token, PageSize="3")
    assert indices == [3, 4, 5]
