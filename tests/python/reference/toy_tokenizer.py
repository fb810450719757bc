"""A Llama-style BPE tokenizer with byte fallback, trained on the sentences below."""

import itertools
import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIALS = ["<unk>", "<s>", "</s>"]
PAD = "<PAD>"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

COLOURS = "red green blue yellow white black orange purple pink brown grey golden".split()
SHAPES = "circle square triangle star ball box ring cross diamond line".split()
SIZES = "small large tiny big huge little".split()
MOVES = "moves slides rolls bounces spins drifts jumps falls rises turns stops starts".split()
PLACES = [
    "to the left", "to the right", "across the screen", "from the top to the bottom", "towards the camera",
    "in a circle", "behind the other shape", "into the corner", "up and down", "away from the centre",
]
ANIMALS = "rabbit dog cat bird horse squirrel bear goat tiger lion turtle cow monkey elephant duck frog".split()
DOINGS = [
    "is eating grass", "is sleeping under a tree", "runs through the forest", "is looking at the sky",
    "comes out of its hole", "stretches and yawns", "is playing with a friend", "jumps over a log",
    "follows the path", "is drinking water", "smells a flower", "watches the others",
]
PEOPLE = "man woman boy girl child person player teacher singer cook worker dancer".split()
ACTIONS = [
    "is cutting vegetables in the kitchen", "is riding a bicycle along the road", "plays the guitar on stage",
    "throws the ball to another player", "is talking to the camera", "walks slowly down the street",
    "opens the door and enters the room", "is cooking rice in a large pan", "puts the book on the table",
    "is swimming in the pool", "climbs the mountain", "is dancing with friends at a party", "washes the car",
    "picks up a cup and drinks coffee", "is painting a picture", "drives along the highway at night",
    "reads a newspaper on the train", "is folding clothes", "shows how to repair a machine", "laughs and claps",
]
SCENES = [
    "in the morning", "on a sunny day", "near the river", "in front of a house", "at the beach", "during the game",
    "in the garden", "while it is raining", "before dinner", "after school",
]
NUMBERS = "one two three four five six seven eight nine ten several many".split()
QUESTIONS = [
    "What is happening in this video?", "Describe what is happening in this video.", "Describe the video in detail.",
    "Who is in the video?", "Where does this take place?", "Which direction does the shape move?",
    "Why did the person stop?", "When does the music start?", "How does the video end?",
    "What will happen next?", "Is there an animal in the scene?", "What happened first?",
]
ANSWERS = [
    "Yes, there is.", "No, there is not.", "Yes", "No", "True", "False", "It is not clear from the video.",
    "The video shows two of them.", "The first one is faster than the second.", "They stay at the same place.",
    "Because the other person asked for help.", "Nothing changes between the beginning and the end.",
]


def corpus():
    """Every pair of words from the lists above once, in templates: a few thousand lines without line breaks."""
    for (colour, shape), (index, place) in itertools.product(
        itertools.product(COLOURS, SHAPES), enumerate(PLACES)
    ):
        size, move = SIZES[(index + len(colour)) % len(SIZES)], MOVES[(index + len(shape)) % len(MOVES)]
        yield f"A {size} {colour} {shape} {move} {place}."
    for (animal, doing), scene in zip(itertools.product(ANIMALS, DOINGS), itertools.cycle(SCENES)):
        yield f"The {animal} {doing} {scene}."
    for (person, action), scene in zip(itertools.product(PEOPLE, ACTIONS), itertools.cycle(SCENES[::-1])):
        yield f"A {person} {action} {scene}, and then another {person} arrives."
    for number, animal in itertools.product(NUMBERS, ANIMALS):
        yield f"How many {animal}s are there? There are {number} {animal}s in the video."
    for question, answer in itertools.product(QUESTIONS, ANSWERS):
        yield f"In: {question} Out: {answer}"
    for letter, shape in itertools.product(LETTERS, SHAPES):
        yield f"({letter}) The {shape}. Answer with the letter: {letter}"
    for number in range(0, 1000, 7):
        yield f"Frame {number} of {number + 25}: {number / 25} seconds; {number % 60} minutes!"
    # Frequent enough to become one token each, as in the real vocabulary.
    yield from [f"Yes No True False {' '.join(LETTERS)}"] * 100
    yield from ["'\"#$%&*+-/<=>@[\\]^_`{|}~ abcdefghijklmnopqrstuvwxyz"] * 3


def train(vocabulary, lines=()):
    """A tokenizer trained on the sentences here and `lines`. Special tokens come first, then bytes, the alphabet and the
    merges. `<PAD>` is last, as if added later."""
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    draft = Tokenizer(models.BPE())
    draft.normalizer = normalizer
    # Only for training: merges must not cross spaces, punctuation or digits.
    draft.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", "merged_with_next"),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    draft.train_from_iterator(
        itertools.chain(corpus(), lines),
        trainers.BpeTrainer(vocab_size=vocabulary - 1, special_tokens=SPECIALS + BYTES, show_progress=False),
    )
    learned = json.loads(draft.to_str())["model"]
    assert len(learned["vocab"]) == vocabulary - 1, len(learned["vocab"])

    merges = [tuple(merge) for merge in learned["merges"]]
    vocab = {**learned["vocab"], PAD: vocabulary - 1}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS + [PAD]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    for text in ("In: Describe what is happening in this video.\nOut:", "naïve 日本 🦊  two  blanks"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text, text
    for word in ("Yes", "No", "True", "False", *LETTERS):
        assert len(tokenizer.encode(word, add_special_tokens=False)) == 1, word
    return tokenizer
