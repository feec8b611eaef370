# SPDX-License-Identifier: GPL-2.0
"""Sizes, rates, CPU lists and times."""

import pytest

from popcorn.units import (
    format_cpulist,
    format_duration,
    format_micros,
    format_size,
    parse_address,
    parse_cpulist,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1k", 1024),
        ("512M", 512 << 20),
        ("2G", 2 << 30),
        ("1GiB", 1 << 30),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "12X", "5 M", "0x10", "1e3"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(("text", "rate"), [("1000", 1000), ("0.5", 0.5), (" 1e3/s ", 1000)])
def test_rates(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "/s", "0", "-1", "inf", "nan", "fast", "5/m"])
def test_rates_that_are_none(text):
    with pytest.raises(ValueError, match="is not a rate"):
        parse_rate(text)


@pytest.mark.parametrize("size", [1, 1000, 4096, 3 << 20, 512 << 20, 1 << 30, 5 << 40])
def test_size_survives_formatting(size):
    assert parse_size(format_size(size)) == size


def test_addresses():
    assert parse_address("0x140000000") == 5 << 30
    assert parse_address("5G") == 5 << 30
    for text in ("0xzz", "there", ""):
        with pytest.raises(ValueError, match="address"):
            parse_address(text)


@pytest.mark.parametrize(
    ("text", "cpus"), [("2", (2,)), ("2-3,5", (2, 3, 5)), ("5,1-2", (5, 1, 2)), ("0-0", (0,))]
)
def test_cpu_lists_keep_their_order(text, cpus):
    assert parse_cpulist(text) == cpus


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a CPU list"),
        ("2-", "is not a CPU list"),
        ("a", "is not a CPU list"),
        ("1,,2", "is not a CPU list"),
        ("-1", "is not a CPU list"),
        ("3-2", "runs backwards"),
        ("2,2", "CPU 2 is named twice"),
        ("1-3,2", "CPU 2 is named twice"),
        ("9000", "beyond"),
        ("0-999999", "beyond"),
    ],
)
def test_cpu_lists_that_are_none(text, why):
    with pytest.raises(ValueError, match=why):
        parse_cpulist(text)


def test_cpu_list_formatting():
    assert format_cpulist((5, 2, 3)) == "2-3,5"
    assert format_cpulist((0, 2, 4)) == "0,2,4"
    assert format_cpulist(()) == ""


def test_times():
    assert format_duration(0.42) == "0.4s"
    assert format_duration(59.9) == "59s"
    assert format_duration(200) == "3m20s"
    assert format_duration(18120) == "5h02m"
    assert format_duration(2 * 86400 + 4 * 3600) == "2d04h"
    assert format_micros(3.214) == "3.21 µs"
    assert format_micros(1234) == "1.234 ms"
    assert format_micros(2.1e6) == "2.100 s"
