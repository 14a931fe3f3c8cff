"""Servers send what they are known to send, and the tables of the docs say what comes of it."""

from __future__ import annotations

import pytest

from batch_gateway import HTTPInferenceClientConfig
from batch_gateway.http.target import Target
from tests.servers.driving import drive
from tests.servers.faults import FAULTS, Fault
from tests.servers.form import Form, Vendor
from tests.servers.page import ERRORS, SERVERS, VENDORS, servers_page, with_fault_matrix

FORMS = [(vendor.name, form) for vendor in VENDORS for form in vendor.forms]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "form"), FORMS, ids=[f"{n}: {form.says}" for n, form in FORMS])
async def test_what_a_server_sends_is_turned_into_what_the_page_says(name: str, form: Form) -> None:
    for outcome in await drive(form):
        assert str(outcome) == form.becomes, f"{name}: {outcome.words}"
        assert form.words in outcome.words


@pytest.mark.anyio
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.form.says for fault in FAULTS])
async def test_a_fault_is_turned_into_what_the_matrix_says(fault: Fault) -> None:
    for outcome in await drive(fault.form, fault.fault):
        assert str(outcome) == fault.form.becomes, outcome.words
        assert fault.form.words in outcome.words
        assert (type(outcome.error).__name__ if outcome.error else "") == fault.kind
        assert outcome.recorded == fault.recorded


@pytest.mark.parametrize("vendor", VENDORS, ids=[vendor.name for vendor in VENDORS])
def test_a_base_url_as_the_vendor_has_it_leads_where_requests_belong(vendor: Vendor) -> None:
    for base, asked in vendor.bases.items():
        target = Target.of(HTTPInferenceClientConfig(base))
        assert target.url("/v1/chat/completions") == asked


def test_every_row_of_the_page_about_servers_is_one_that_is_tested() -> None:
    """And every tested row is there: `python -m tests.servers.page` makes the page anew."""
    assert SERVERS.read_text("utf-8") == servers_page()


def test_every_row_of_the_fault_matrix_is_one_that_is_tested() -> None:
    page = ERRORS.read_text("utf-8")
    assert page == with_fault_matrix(page)


def test_no_two_rows_say_the_same() -> None:
    for rows in (*(vendor.forms for vendor in VENDORS), [fault.form for fault in FAULTS]):
        said = [form.says for form in rows]
        assert len(set(said)) == len(said)
