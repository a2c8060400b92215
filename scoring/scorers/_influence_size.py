"""How many Hessian products, over how many examples, influence takes for a model of this size on this machine.

    seconds ≈ P · t · (examples / measured examples),   t the time of one product over a few batches, measured

The paper takes P = 500 products over up to 5,000 examples whatever they cost. Here P, then the examples, are lowered in
steps until the products fit the seconds that they may take. The choice is kept in ``run.json``, so that another
moment's timing does not change the numbers; only more seconds than then raise it.

Inputs → outputs: measured seconds and what was asked for → ``Choice``. Cost: two products over two batches. Limits: a
product over all examples may take a slower way than one over a few (recomputed instead of retained), up to 1.5 times as
long; the embeddings that follow are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

PRODUCTS = (500, 250, 120, 60)
EXAMPLES = (5000, 2000, 1000, 500)


@dataclass(frozen=True)
class Choice:
    """P products over so many examples, and the seconds that these are estimated to take."""

    products: int
    examples: int
    seconds: float


def choose_size(per_product: float, examples: int, wanted: Choice, seconds: float) -> Choice:
    """The most products, then the most examples, that fit in ``seconds``; never more than ``wanted``, and the fewest
    where not even these fit.

    ``per_product``: seconds of one product over ``examples`` examples.

    >>> wanted = Choice(500, 5000, 0.0)
    >>> choose_size(0.1, 5000, wanted, 900.0), choose_size(4.0, 5000, wanted, 900.0)
    (Choice(products=500, examples=5000, seconds=50.0), Choice(products=120, examples=5000, seconds=480.0))
    >>> choose_size(60.0, 5000, wanted, 900.0)
    Choice(products=60, examples=1000, seconds=720.0)
    """
    products = [wanted.products, *(number for number in PRODUCTS if number < wanted.products)]
    subsets = [wanted.examples, *(number for number in EXAMPLES if number < wanted.examples)]
    ways = [(number, subsets[0]) for number in products] + [(products[-1], subset) for subset in subsets[1:]]
    found = [Choice(p, n, p * per_product * n / max(examples, 1)) for p, n in ways]
    return next((choice for choice in found if choice.seconds <= seconds), found[-1])
