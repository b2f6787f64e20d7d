"""What the seed sells: 40 things, each in five makes."""

from __future__ import annotations

from collections.abc import Iterator

from products.schemas import NewProduct

# In cents, the first make's price.
THINGS: tuple[tuple[str, int, str], ...] = (
    ("mug", 1490, "Holds 300 ml and keeps warm for a long breakfast."),
    ("tea towel", 890, "Dries a whole evening's dishes and asks only for a warm wash."),
    ("chopping board", 3290, "Thick enough to stay flat, with a groove for the juice."),
    ("bread knife", 4490, "A long wavy blade that leaves the crust whole and the crumbs few."),
    ("teapot", 3890, "One litre, a spout that does not drip, a lid that stays on."),
    ("salad bowl", 2990, "Wide and low: room for six, and for tossing."),
    ("soup plate", 1690, "A deep plate with a broad rim. Goes into the oven and the dishwasher."),
    ("water jug", 2490, "For the middle of the table. Pours to the last drop."),
    ("storage jar", 1190, "Shuts tightly; flour, coffee and biscuits stay as they were."),
    ("pepper mill", 3490, "A ceramic grinder, from coarse to fine by a turn of the knob."),
    ("candle holder", 1590, "Takes candles of 22 mm and stands firmly."),
    ("picture frame", 2190, "For 18 x 24 cm, upright or across, with a passe-partout."),
    ("desk lamp", 6990, "Bends where the light is wanted. Takes any E27 bulb."),
    ("wall clock", 4990, "30 cm across, runs silently, and for a year on one battery."),
    ("waste-paper basket", 2690, "Light to carry, and heavy enough at the bottom not to tip."),
    ("bookend", 1890, "A pair that holds back a full shelf, felt underneath."),
    ("pen tray", 1290, "Three compartments: pens, clips, and all the rest."),
    ("notebook", 990, "160 pages of 90 g paper, sewn, so that it lies open."),
    ("letter opener", 1390, "For those who still get letters, and those who wish to."),
    ("coat hook", 790, "Carries a wet winter coat. Screws and plugs are with it."),
    ("doormat", 2790, "Takes the mud of the whole family and is beaten clean."),
    ("umbrella stand", 5490, "Room for seven, with a tray for what drips."),
    ("cushion", 2390, "45 x 45 cm, filled with wool; the cover comes off for the wash."),
    ("blanket", 7990, "130 x 180 cm, light on the knees and warm all the same."),
    ("bath mat", 2990, "Dries quickly and does not slip."),
    ("soap dish", 990, "Ridges let the water run off, so that the soap lasts."),
    ("bath brush", 1790, "A long handle for the middle of the back."),
    ("laundry basket", 4290, "60 litres, with two handles and a lining that comes out."),
    ("plant pot", 1690, "For plants up to 14 cm, with a saucer."),
    ("watering can", 3190, "Two litres and a long thin spout for the back row."),
    ("bird house", 3690, "For tits and sparrows: a hole of 32 mm, and a roof that opens for cleaning."),
    ("garden trowel", 1990, "Forged in one piece, so that there is nothing to come loose."),
    ("picnic basket", 6490, "Plates, cutlery and glasses for four, each held by a strap."),
    ("lunch box", 2290, "Two tight compartments; the soup stays out of the cake."),
    ("drinking bottle", 2590, "Half a litre. Does not leak in the bag, upside down either."),
    ("shopping bag", 1490, "Carries 15 kg and folds to the size of a hand."),
    ("key ring", 690, "Heavy enough to be found at the bottom of a bag."),
    ("serving tray", 3390, "With raised edges and grips for two sure hands."),
    ("bottle opener", 1090, "Opens crown caps at one go and hangs on a hook."),
    ("set of coasters", 1290, "Six of them, and no more rings on the table."),
)
# What it is called, what its price is in hundredths of the first make's, and what is said of it.
MAKES: tuple[tuple[str, int, str], ...] = (
    ("Harbour", 100, "In the deep blue of the harbour, made for every day."),
    ("Dune", 115, "In a warm sand colour, left matt."),
    ("Meadow", 108, "In soft green, each a little different."),
    ("Ember", 130, "In a glowing red brown, finished by hand."),
    ("Chalk", 95, "Plain and white, and goes with everything."),
)


def goods() -> Iterator[tuple[str, NewProduct]]:
    """Article number and product: the same 200 each time, neighbours of different makes. Some are sold out, and of some
    there is one left."""
    number = 0
    for turn in range(len(MAKES)):
        for thing, price_minor, use in THINGS:
            number += 1
            make, percent, look = MAKES[(number + turn) % len(MAKES)]
            yield (
                f"{make}-{thing}".lower().replace(" ", "-"),
                NewProduct(
                    name=f"{make} {thing}",
                    description=f"{use} {look}",
                    price_minor=price_minor * percent // 1000 * 10,
                    stock=0 if number % 37 == 0 else 1 if number % 23 == 0 else 5 + number * 7 % 56,
                ),
            )
