"""Examples that teach merv-tiny multiple choice.

    python make_choices.py DATA TOKENIZER

DATA is a folder that `merv-host synth` wrote, TOKENIZER the language model's tokenizer.json. The files are written
into DATA. They are learned in this order:

    order.json, letters.json                            texts for an untrained language model
    read.json, colours.json, others.json, rare.json,
    choices.json, all.json                              for the whole model

docs/merv-tiny.md explains why there are so many.
"""

import json
import random
import re
import sys
from pathlib import Path

LETTERS = "ABCDE"
COLOURS = "red green blue yellow purple orange white black".split()
SHAPES = "circle square triangle star cross ring".split()
DIRECTIONS = "left right up down".split()
# The parts of options.
ANSWERS = [
    COLOURS, SHAPES, DIRECTIONS, ["small", "large"], ["slow", "fast"], ["still", "moving"],
    [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES],
    [f"{one}, then {other}" for one in DIRECTIONS for other in DIRECTIONS if one != other],
]
COMMON = 64  # words in the first lists
CLIPS = 6000  # clips for multiple choice
ROUNDS = 5  # multiple-choice questions per conversation, which then fits into 512 tokens


def listed(options):
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options))


def message(question, options):
    """A multiple-choice question as `merv-host eval` asks it."""
    letters = LETTERS[: len(options)]
    instruction = "Select the correct answer from the following options. Write your answer as only one of"
    return f"{question} {instruction} {', '.join(letters)} and nothing else.\n\n    {listed(options)}"


def rotated(chance, words):
    """A list of words, and the same list from another position on. The positions differ, so the next word of a reply
    depends only on the next word in the list."""
    listed = chance.sample(words, chance.randrange(6, 20))
    start = chance.randrange(len(listed))
    return [(" ".join(listed), " ".join(listed[start:] + listed[:start]))]


def lettered(chance, words):
    """Options, and the letters of some of them."""
    if chance.random() < 0.5:
        options = chance.sample(words, chance.choice([2, 3, 4, 4, 5]))
    else:
        among = chance.choice(ANSWERS)
        options = chance.sample(among, min(len(among), chance.choice([2, 4, 4, 4])))
    letters = list(LETTERS[: len(options)])
    form = chance.random()
    if form < 0.25:
        # In random order, so that an option's position does not determine its letter.
        chance.shuffle(letters)
        dot = chance.choice(["", "."])
        pairs = " ".join(f"{letter}{dot} {option}" for letter, option in zip(letters, options))

    def ask(asked):
        if form < 0.25:
            return f"{pairs}\n{asked}"
        if form < 0.5:
            return f"{asked}\n\n    {listed(options)}"
        return message(f"It is {asked}.", options)

    if chance.random() < 0.3:
        places = chance.sample(range(len(options)), len(options))
        asked = ask(" ".join(options[place] for place in places))
        return [(asked, " ".join(f"{options[place]} {letters[place]}" for place in places))]
    places = [chance.randrange(len(options)) for _ in range(4)]
    return [(options[place] if turn else ask(options[place]), letters[place]) for turn, place in enumerate(places)]


def turns(pairs):
    """Questions and replies in LLaVA's format."""
    both = (({"from": "human", "value": asked}, {"from": "gpt", "value": said}) for asked, said in pairs)
    return [turn for pair in both for turn in pair]


def pairs(example):
    """The questions of an example, without the mark, and its replies."""
    texts = [turn["value"].removeprefix("<video>\n") for turn in example["conversations"]]
    return list(zip(texts[::2], texts[1::2]))


def offered(chance, question, right, options, answers):
    """A question with two to four options: from `answers` for colours and the like, otherwise the question's own."""
    among = next((kind for kind in answers if right in kind), options)
    others = [option for option in among if option != right]
    shown = chance.sample(others, min(len(others), chance.choice([1, 2, 3])))
    shown.insert(chance.randrange(len(shown) + 1), right)
    return message(question, shown), LETTERS[shown.index(right)]


def drilled(choices, chance, times):
    """A clip's multiple-choice questions. `times` gives the repetitions from the answer and the clip's story. Each
    repetition has different options."""
    asked, story = [], choices["combination"].split("/")[0]
    for text, letter in pairs(choices):
        question, instruction = text.split(" Select the correct answer", 1)
        options = [line.split(". ", 1)[1] for line in instruction.split("\n\n    ")[1].splitlines()]
        right = options[LETTERS.index(letter)]
        asked += [offered(chance, question, right, options, ANSWERS[:3]) for _ in range(times(right, story))]
    chance.shuffle(asked)
    return asked[:ROUNDS]


def conversation(example, mark, asked, kept=("id", "combination", "video")):
    """A different conversation about the same clip."""
    made = {key: example[key] for key in kept}
    made["conversations"] = turns(asked)
    made["conversations"][0]["value"] = f"{mark}\n{asked[0][0]}"
    return made


def mixed(chance, choices, questions):
    """Multiple-choice and some open questions in random order."""
    others = pairs(questions)
    asked = pairs(choices) + chance.sample(others, chance.randrange(1, len(others) + 1))
    chance.shuffle(asked)
    return asked


def some(chance, examples, part):
    return [example for example in examples if chance.random() < part]


def main():
    data, tokenizer = map(Path, sys.argv[1:])
    chance = random.Random(13)
    vocabulary = json.loads(tokenizer.read_text())["model"]["vocab"]
    words = [piece[1:] for piece in vocabulary if re.fullmatch("▁[a-z]{3,}", piece)]
    examples = json.loads((data / "train.json").read_text())
    every = list(zip(examples[::3], examples[1::3], examples[2::3], strict=True))
    clips = every[:CLIPS]

    def texts(count, make):
        return [{"id": f"text-{number}", "conversations": turns(make())} for number in range(count)]

    def letters():
        return lettered(chance, words) if chance.random() < 0.8 else rotated(chance, words)

    def write(name, *parts):
        (data / name).write_text(json.dumps([example for part in parts for example in part]))

    write("order.json", texts(64000, lambda: rotated(chance, words[:COMMON])))
    # The caption replaces the clip: a text that describes what the clip shows.
    described = [
        conversation(choices, pairs(caption)[0][1], mixed(chance, choices, questions), ("id", "combination"))
        for caption, questions, choices in clips
    ]
    write("letters.json", texts(90000, letters), described)

    open_ended = [example for caption, questions, _ in clips for example in (caption, questions)]
    both = [conversation(choices, "<video>", mixed(chance, choices, questions)) for _, questions, choices in clips]
    extra_texts = texts(len(clips) * 3 // 4, letters)
    write("read.json", some(chance, open_ended, 0.35), both, described, extra_texts)

    def drill(name, times, rest):
        drills = ((choices, drilled(choices, chance, times)) for _, _, choices in clips)
        asked = [conversation(choices, "<video>", rounds) for choices, rounds in drills if rounds]
        write(name, asked, some(chance, both, rest), some(chance, open_ended, 0.15), extra_texts[: len(clips) // 4])

    drill("colours.json", lambda right, _: 3 if right in COLOURS else int(right in SHAPES + DIRECTIONS), 0.25)
    drill("others.json", lambda right, _: 3 if right in SHAPES + DIRECTIONS else 1 if right in COLOURS else 2 * (" " in right), 0.3)
    # Rare contents of the stories, which are not learned by then.
    drill("rare.json", lambda right, story: 4 * (right in DIRECTIONS or (story == "appears" and " " in right)), 0.3)
    write("choices.json", some(chance, open_ended, 0.55), both, extra_texts[: len(clips) // 4])

    # The clips above teach too little about numbers.
    whole = [example for caption, questions, _ in every for example in (caption, questions)]
    counted = [questions for _, questions, _ in every if "How many" in str(questions["conversations"])]
    asked = [
        conversation(choices, "<video>", mixed(chance, choices, questions))
        for _, questions, choices in every
        if chance.random() < 0.5
    ]
    write("all.json", whole, counted, asked, extra_texts[: len(every) // 10])


if __name__ == "__main__":
    main()
