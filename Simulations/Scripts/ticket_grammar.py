"""Grammar of the embedded task: tickets to the service desk of a hospital.

A ticket names one to three things that belong to different teams. The label is the team that must come: the owner of the
thing that is at fault *now*. The other things are only mentioned: they work, were repaired, are in somebody else's hands,
or were suspected wrongly. Predicates are the same for all teams, so that a bag of words knows which teams are mentioned
but not which one is at fault.

Every word here is our own. Some things, clauses and frames are held out from the training set: the test set uses them
beside the known ones.
"""

import random

# team -> (things in training and test, things in the test set only)
THINGS = {
    "access": (
        [
            "badge reader", "password reset page", "login", "staff card", "user account", "door lock", "smart card",
            "access code", "entry gate", "fingerprint reader", "sign-on page", "key cabinet",
        ],
        ["card reader", "password", "turnstile"],
    ),
    "devices": (
        [
            "infusion pump", "patient monitor", "ventilator", "ultrasound machine", "defibrillator", "blood analyser",
            "syringe pump", "x-ray unit", "pulse oximeter", "incubator", "dialysis machine", "ECG recorder",
        ],
        ["heart monitor", "blood pressure monitor", "MRI scanner"],
    ),
    "facilities": (
        [
            "heating", "lift", "ceiling light", "water tap", "air conditioning", "window blind", "sliding door",
            "sink", "radiator", "floor drain", "power socket", "fire door",
        ],
        ["elevator", "ceiling lamp", "shower"],
    ),
    "network": (
        [
            "wireless network", "VPN", "network switch", "internet connection", "router", "network cable", "firewall",
            "access point", "network port", "file share", "remote desktop", "DNS server",
        ],
        ["wifi", "internet link", "proxy server"],
    ),
    "printing": (
        [
            "label printer", "document scanner", "copier", "laser printer", "fax machine", "print queue",
            "wristband printer", "paper tray", "printer driver", "photo printer", "toner cartridge", "scan folder",
        ],
        ["colour printer", "flatbed scanner", "printer"],
    ),
    "records": (
        [
            "patient record", "appointment calendar", "prescription form", "lab result page", "discharge letter",
            "medication list", "bed planner", "billing screen", "referral form", "vaccination record",
            "allergy list", "surgery schedule",
        ],
        ["patient file", "medication chart", "appointment schedule"],
    ),
}

PLACES = [
    "on ward 2", "on ward 5", "in room 12", "in room 214", "at the front desk", "in the pharmacy", "in the laboratory",
    "in the emergency room", "on the third floor", "in the day clinic", "in theatre 1", "in the basement",
    "at the nurses station", "in radiology", "in the office",
]
TIMES = [
    "since this morning", "since yesterday", "again", "for an hour", "since the night shift", "since Monday",
    "for two days", "every few minutes", "since the update", "right now", "all day", "since noon",
]

# {x}: the thing at fault. Known ones, then held-out ones.
FAULTS = (
    [
        "the {x} {p} is not working",
        "the {x} has failed {t}",
        "the {x} does not respond {t}",
        "the {x} {p} is broken",
        "the {x} keeps failing {t}",
        "we cannot use the {x} {t}",
        "the {x} {p} is dead",
        "the {x} shows an error {t}",
        "the {x} is out of order",
        "there is a problem with the {x} {p}",
        "please repair the {x} {p}",
        "the {x} stopped working {t}",
        "nobody can use the {x} {p}",
        "the {x} needs to be fixed",
        "somebody has to look at the {x} {p}",
        "we have trouble with the {x} {t}",
    ],
    [
        "the {x} {p} is down",
        "the {x} has stopped {t}",
        "please fix the {x} {p}",
        "the {x} refuses to work {t}",
        "we have a problem with the {x} {p}",
    ],
)

# {y}: a thing that is only mentioned.
ASIDES = (
    [
        "the {y} is fine",
        "the {y} works again",
        "the {y} {p} has been repaired",
        "there is no problem with the {y}",
        "nothing is wrong with the {y}",
        "the {y} is working",
        "the {y} was fixed yesterday",
        "the {y} did not fail",
        "nobody complained about the {y}",
        "the {y} is not broken",
        "you do not need to look at the {y}",
        "the {y} never stopped working",
        "the broken {y} was replaced",
        "the error of the {y} is gone",
        "the trouble with the {y} is over",
        "somebody already fixed the {y} {p}",
    ],
    [
        "the {y} still works",
        "the {y} is not the problem",
        "we have no trouble with the {y}",
        "the {y} {p} was repaired this morning",
        "the problem with the {y} is solved",
    ],
)

JOINS = (["{a}, {b}", "{a}. {b}", "{a} and {b}", "{a}; {b}", "{a}, but {b}"], ["{a}, while {b}", "{a} although {b}"])

# Whole frames in which the roles follow from contrast, order or cause.
FRAMES = (
    [
        "it is not the {y} but the {x} that fails {t}",
        "it is the {x} that fails {t}, not the {y}",
        "we suspected the {y}, but it was the {x}",
        "the {x} is the cause, not the {y}",
        "not the {y} this time, the {x} {p}",
        "first we blamed the {y}, then we saw that the {x} is broken",
        "since the {y} was replaced the {x} does not work",
        "the {x} fails whenever we use the {y}",
        "the {y} looks dead, but only because the {x} {p} is broken",
        "the {x} broke down while we worked with the {y}",
        "the {y} does not wait for the {x}, which is out of order",
        "the report about the {y} was a mistake, please repair the {x}",
        "the {y} cannot be used because the {x} has failed",
        "because the {x} has failed the {y} cannot be used",
    ],
    [
        "the fault is in the {x} and not in the {y}",
        "we thought that it was the {y}, but it is the {x}",
        "the {y} does not work because the {x} is broken",
        "please look at the {x}, not at the {y}",
    ],
)

OPENINGS = ["", "", "", "", "hello, ", "good morning, ", "urgent: ", "please help: ", "ticket from ward 3: ", "again: "]
CLOSINGS = ["", "", "", "", "", ", thanks", ", please call back", ", thank you", ", it is urgent"]

TEAMS = sorted(THINGS)


def _pick(rng, known_and_new, new_share):
    known, new = known_and_new
    return rng.choice(new) if rng.random() < new_share else rng.choice(known)


def ticket(rng, new_things=0.0, new_wording=0.0):
    """One ticket as (label, text). The shares say how often a held-out thing or wording is taken."""
    team = rng.choice(TEAMS)
    others = rng.sample([t for t in TEAMS if t != team], 2)
    x = _pick(rng, THINGS[team], new_things)
    y = _pick(rng, THINGS[others[0]], new_things)
    z = _pick(rng, THINGS[others[1]], new_things)

    def clause(kind):
        return _pick(rng, kind, new_wording)

    def fill(text, **things):
        text = text.replace("{p}", rng.choice(PLACES) if rng.random() < 0.35 else "")
        text = text.replace("{t}", rng.choice(TIMES) if rng.random() < 0.5 else "")
        return text.format(**things)

    def join(a, b):
        return _pick(rng, JOINS, new_wording).format(a=a, b=b)

    kind = rng.random()
    if kind < 0.22:
        body = fill(clause(FAULTS), x=x)
    elif kind < 0.58:
        parts = [fill(clause(FAULTS), x=x), fill(clause(ASIDES), y=y)]
        rng.shuffle(parts)
        body = join(*parts)
    elif kind < 0.92:
        body = fill(clause(FRAMES), x=x, y=y)
    else:
        parts = [fill(clause(FAULTS), x=x), fill(clause(ASIDES), y=y), fill(clause(ASIDES), y=z)]
        rng.shuffle(parts)
        body = join(join(parts[0], parts[1]), parts[2])
    text = rng.choice(OPENINGS) + body + rng.choice(CLOSINGS)
    text = " ".join(text.split()).replace(" ,", ",").replace(" .", ".").replace(" ;", ";")
    return team, ". ".join(part[0].upper() + part[1:] for part in text.split(". ")) + "."


NOTES = [
    "the {team} team looks after the {a}, the {b} and the {c}.",
    "the {a} and the {b} are kept by the {team} team.",
    "the {a} is much like the {b}.",
    "to test the {a}, start with the {b} and the {c}.",
    "the {team} manual has a page on the {a} and one on the {b}.",
    "the {a} {p} was installed together with the {b}.",
    "a new {a} was ordered, and a {b} for the same room.",
    "training for the {a} is given by the {team} team {p}.",
    "the {team} store holds parts for the {a}, the {b} and the {c}.",
    "when the {a} is cleaned the {b} is cleaned too.",
]


def note(rng):
    """One unlabelled sentence of in-house prose, from which an encoder can learn which things belong together."""
    team = rng.choice(TEAMS)
    a, b, c = rng.sample(THINGS[team][0] + THINGS[team][1], 3)
    text = rng.choice(NOTES).format(team=team, a=a, b=b, c=c, p=rng.choice(PLACES))
    return text[0].upper() + text[1:]


def tickets(seed, count, new_things=0.0, new_wording=0.0, exclude=()):
    """`count` different tickets, balanced over the teams, none of whose texts is in `exclude`."""
    rng = random.Random(seed)
    seen = set(exclude)
    quota = {team: count // len(TEAMS) for team in TEAMS}
    rows = []
    while len(rows) < count // len(TEAMS) * len(TEAMS):
        label, text = ticket(rng, new_things, new_wording)
        if quota[label] and text not in seen:
            seen.add(text)
            quota[label] -= 1
            rows.append((label, text))
    return rows
