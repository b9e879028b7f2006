"""What people in the drawn corpus say. Invented; the words are chosen so that a sentence encoder tells them apart.

Topics are the same for all questions, so that the words do not give the question away.
"""

import numpy as np

from twominds.synthetic.corpus.casting import pick

TOPICS = (
    "about the gym",
    "with my diet",
    "about the new job",
    "as for smoking",
    "about moving out",
    "with the night class",
    "about early mornings",
    "as for the sugar",
    "about the therapy",
    "with the running club",
    "about the long trip",
    "as for my phone",
    "about the evening walks",
    "with the cooking course",
)
DECIDED = (
    "I will do it",
    "definitely yes",
    "I am certain",
    "there is no doubt",
    "I have decided",
    "I know exactly what I want",
    "absolutely",
    "that is settled",
    "my mind is made up",
    "I am fully committed",
    "of course I will",
    "it is perfectly clear",
    "nothing will stop me",
    "I start on Monday",
)
LUKEWARM = (
    "I think so",
    "it should be fine",
    "I would say yes",
    "most days it works",
    "I expect to",
    "it looks all right",
    "I suppose that works",
    "more or less",
    "it is fairly likely",
    "we will see",
)
HEDGED = (
    "I don't know, maybe",
    "part of me wants to, but then",
    "I am torn",
    "I keep going back and forth",
    "it's hard to say",
    "I'm not sure at all",
    "maybe yes, maybe no",
    "I can't decide",
    "I might, or I might not",
    "sort of, I guess",
    "well, perhaps, I hesitate",
    "on the other hand, who knows",
    "I want to, and I don't",
    "it depends, I really can't tell",
)
WILLING = (
    "I love it",
    "it makes me happy",
    "it is wonderful",
    "I enjoy every minute",
    "I look forward to it",
    "it feels great",
    "I am so glad",
    "what a joy",
    "it is a delight",
    "I am excited and grateful",
)
UNWILLING = (
    "I hate it",
    "it makes me miserable",
    "it is awful",
    "I dread every minute",
    "I am sick of it",
    "it feels terrible",
    "I am so angry",
    "what a misery",
    "it is disgusting",
    "I am upset and resentful",
)


def hesitant_clauses(rng: np.random.Generator, hesitation: float, valence: int, count: int) -> list[str]:
    """A topic, `count` clauses whose wording hedges in proportion to `hesitation` (0..1), and one clause of feeling.

    Each of the clauses is decided (0), lukewarm (1) or hedged (2); their sum is `hesitation` of the most it can be.
    """
    levels = [0] * count
    for _ in range(round(2 * count * hesitation)):
        levels[pick(rng, [index for index, level in enumerate(levels) if level < 2])] += 1
    clauses = [pick(rng, (DECIDED, LUKEWARM, HEDGED)[level]) for level in levels]
    clauses.insert(int(rng.integers(count + 1)), pick(rng, WILLING if valence > 0 else UNWILLING))
    return [pick(rng, TOPICS), *clauses]


def feeling_clauses(rng: np.random.Generator, valence: int, count: int) -> list[str]:
    """A topic and `count` clauses that are all willing (`valence` 1) or all unwilling (-1)."""
    phrases = WILLING if valence > 0 else UNWILLING
    order = [int(index) for _ in range(-(-count // len(phrases))) for index in rng.permutation(len(phrases))]
    return [pick(rng, TOPICS), *(phrases[index] for index in order[:count])]


def as_sentences(clauses: list[str]) -> str:
    """The transcript: clauses joined as a recogniser would write them, with commas and capitals."""
    text = ", ".join(clauses)
    return text[:1].upper() + text[1:] + "." if text else ""
