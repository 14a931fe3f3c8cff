"""Write a batch file of varied short requests; the same lines every time.

    python examples/make_requests.py > examples/requests.jsonl
    python examples/make_requests.py --lines 100000 --model my-model > requests.jsonl

They come in groups that share a system prompt, as real jobs do, and all are for one endpoint, which
batch servers ask for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

PRODUCTS = (
    "the espresso machine", "my wireless headset", "the standing desk", "the car charger",
    "the robot vacuum", "the hiking backpack", "the desk fan", "the air fryer", "the e-reader",
    "the bike helmet", "the garden hose", "the office chair", "the smart lamp",
)  # fmt: skip
EVENTS = (
    "arrived two days early and works well", "stopped working after a week",
    "came in the wrong colour", "was charged twice on my card", "is louder than I expected",
    "is exactly what I was looking for", "never arrived, although it says delivered",
    "has a missing screw", "is better than the one I had before",
    "keeps disconnecting from the network", "was easy to set up",
)  # fmt: skip
WISHES = (
    "What should I do next?", "Can I get a refund?", "Thank you for the quick help.",
    "Please send a replacement.", "How long is the warranty?", "I would buy it again.",
    "Who can I talk to about this?",
)  # fmt: skip
CITIES = (
    "Lisbon", "Osaka", "Nairobi", "Montreal", "Oslo", "Valparaíso", "Hanoi", "Kraków", "Leeds",
    "Austin", "Zürich", "Accra",
)  # fmt: skip
DATES = ("on 3 March", "next Tuesday", "from 12 to 15 June", "on Friday at 18:30", "in late autumn")
LANGUAGES = ("German", "Spanish", "Japanese", "Polish", "Swahili", "Portuguese")
TOPICS = (
    "why the sky is blue", "how a heat pump works", "what inflation means",
    "how vaccines train the immune system", "why bread rises", "how tides come about",
    "what a database index is for", "how noise cancelling works", "why leaves change colour",
    "what a hash function is",
)  # fmt: skip
FIELDS = (
    "cooking", "football", "sailing", "gardening", "music", "chess", "farming", "cinema", "cycling",
    "weather", "trains", "baking", "astronomy", "fishing", "painting", "hiking", "post offices",
)  # fmt: skip
READERS = ("a ten-year-old", "a busy manager", "a first-year student", "a curious neighbour")


def feedback(number: int) -> str:
    """A customer's message; the factors of the lengths keep neighbours apart."""
    product = PRODUCTS[number % len(PRODUCTS)]
    event = EVENTS[(number * 3) % len(EVENTS)]
    wish = WISHES[(number * 5) % len(WISHES)]
    return f"Order {40_000 + number * 17}: {product} {event}. {wish}"


def trip(number: int) -> str:
    city, other = CITIES[number % len(CITIES)], CITIES[(number * 5 + 3) % len(CITIES)]
    date = DATES[(number * 2) % len(DATES)]
    return (
        f"I need {1 + number % 4} seats from {city} to {other} {date}, under {80 + number} euros."
    )


def explanation(number: int) -> str:
    topic, reader = TOPICS[number % len(TOPICS)], READERS[(number * 3) % len(READERS)]
    field = FIELDS[number % len(FIELDS)]
    return (
        f"Explain {topic} to {reader} in {2 + number % 3} sentences, with an example from {field}."
    )


TASKS = (
    (
        "sentiment",
        "You label customer messages. Answer with one word: positive, negative or mixed.",
        feedback,
        4,
    ),
    (
        "reply",
        "You are a support agent of a web shop. Answer politely, in at most three sentences, "
        "and never promise a refund before the order was checked.",
        feedback,
        48,
    ),
    (
        "extract",
        "Extract the travel request as JSON with the keys origin, destination, date, seats and "
        "budget_eur. Use null for what is missing. Answer with the JSON alone.",
        trip,
        40,
    ),
    (
        "explain",
        "You explain things plainly, without jargon and without lists.",
        explanation,
        64,
    ),
    (
        "translate",
        "Translate the message into the language named at its end. Keep numbers as they are.",
        lambda number: f"{feedback(number)} → {LANGUAGES[number % len(LANGUAGES)]}",
        40,
    ),
)


def request(number: int, model: str) -> dict[str, Any]:
    """Line `number`, from 0, as an object."""
    name, system, text, max_tokens = TASKS[(number * 7) % len(TASKS)]
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": text(number)},
        ],
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    custom_id = f"{name}-{number + 1:05d}"
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def lines(count: int, model: str) -> Iterator[str]:
    for number in range(count):
        fields = request(number, model)
        yield json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a batch file of varied short requests.")
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--model", default="llama-3.1-8b")
    options = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.writelines(lines(options.lines, options.model))


if __name__ == "__main__":
    main()
