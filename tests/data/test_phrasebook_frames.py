"""Frames are filled with words that fit together, and German inflection is correct."""

from random import Random

import pytest

from transformer_jax.data.phrasebook import frames, generator, grammar, lexicon, subjects


def word(english):
    """Return a word of the lexicon, or a subject, by its English form."""
    words = lexicon.load_lexicon()
    words_and_subjects = [
        *subjects.SUBJECT_PRONOUNS,
        *subjects.named_subjects(),
        *(noun for group in words.nouns.values() for noun in group),
        *words.adjectives,
        *(phrase for group in words.phrases.values() for phrase in group),
    ]
    return next(entry for entry in words_and_subjects if entry.english == english)


def verb(english):
    return next(entry for group in lexicon.load_lexicon().verbs.values() for entry in group if entry.english == english)


def pronoun(english):
    return next(entry for entry in subjects.OBJECT_PRONOUNS if entry.english == english)


def possessive(english):
    return next(entry for entry in subjects.POSSESSIVES if entry.english == english)


def parse_filling(slots):
    """Return the filling of a line such as "place: station, adj of place: old"; a dash is an empty filling."""
    filling = {}
    for name, english in (slot.split(": ") for slot in slots.split(", ") if slot != "-"):
        base = name.rstrip("0123456789")
        if base in lexicon.load_lexicon().verbs:
            filling[name] = verb(english)
        elif base == "him":
            filling[name] = pronoun(english)
        elif name.startswith("my "):
            filling[name] = possessive(english)
        else:
            filling[name] = word(english)
    return filling


# Frame, filling, and the German sentence written by hand.
SENTENCES = """
Where is {the adj place}?
    place: station, adj of place: old
    Wo ist der alte Bahnhof?
How much does {the adj garment} cost?
    garment: jacket, adj of garment: red
    Wie viel kostet die rote Jacke?
{the transit} leaves at {clock}.
    transit: train, clock: half past seven
    Der Zug fährt um halb acht ab.
I would like a cup of {hot}, please.
    hot: coffee
    Ich möchte eine Tasse Kaffee, bitte.
I do not have a ticket.
    -
    Ich habe keine Fahrkarte.
# Articles and adjective endings: weak, mixed, strong; accusative, dative, genitive.
Excuse me, I am looking for {the adj place}.
    place: park, adj of place: small
    Entschuldigung, ich suche den kleinen Park.
{who} <live> in {a adj dwelling}.
    who: they, dwelling: house, adj of dwelling: big
    Sie wohnen in einem großen Haus.
Do you also sell {wanted garments}?
    garment: shirt, adj of garment: blue
    Verkaufen Sie auch blaue Hemden?
There are {number} {wilds} in the zoo.
    number: three, wild: lion
    Im Zoo gibt es drei Löwen.
{who} <be> afraid of {beasts}.
    who: she, beast: wolf
    Sie hat Angst vor Wölfen.
The color of {the garment} is beautiful.
    garment: dress
    Die Farbe des Kleides ist schön.
The door of {the room} is open.
    room: office
    Die Tür des Büros ist offen.
Because of {the weather} {who} <be> staying at home.
    weather: rain, who: we
    Wegen des Regens bleiben wir zu Hause.
# Weak nouns.
The nurse is helping {the listener}.
    listener: boy
    Die Krankenschwester hilft dem Jungen.
{someone} would like to talk to {the job}.
    someone: Anna, job: student
    Anna möchte mit dem Studenten sprechen.
# Movement and place, contractions.
How do I get to {the place}?
    place: bank
    Wie komme ich zur Bank?
{who} <be> going into {the spot}.
    who: he, spot: garden
    Er geht in den Garten.
{who} <be> sitting in {the spot}.
    who: he, spot: garden
    Er sitzt im Garten.
{who} <be> going into {the spot}.
    who: I, spot: bedroom
    Ich gehe ins Schlafzimmer.
Please lay {the flat} on {the surface}.
    flat: book, surface: table
    Bitte legen Sie das Buch auf den Tisch.
{the flat} is lying on {the surface}.
    flat: book, surface: table
    Das Buch liegt auf dem Tisch.
Turn right at {the place}.
    place: market
    Biegen Sie am Markt rechts ab.
# Separable verbs, in main and subordinate clauses and with zu.
{who} <be> {act.ing} {the adj obj}.
    who: my brother, act: turn off, obj: lamp, adj of obj: old
    Mein Bruder schaltet die alte Lampe aus.
I do not know when {other} {routine}.
    other: Anna, routine: get up
    Ich weiß nicht, wann Anna aufsteht.
{who} <be> trying to {act.inf} {the adj obj}.
    who: I, act: fill out, obj: form, adj of obj: new
    Ich versuche, das neue Formular auszufüllen.
# Perfect tense with haben and sein.
{who} {act.past} {the adj obj} {past}.
    who: we, act: buy, obj: lamp, adj of obj: new, past: yesterday
    Wir haben gestern die neue Lampe gekauft.
{who} {trip.past} at {clock}.
    who: she, trip: arrive, clock: a quarter past six
    Sie ist um Viertel nach sechs angekommen.
# Modal verbs and the future.
{who} <must> {act.inf} {the adj obj}.
    who: you, act: wait for, obj: bus, adj of obj: next
    Sie müssen auf den nächsten Bus warten.
{who} <will> {busy.inf} {the obj} {when}.
    who: he, busy: help, obj: waiter, when: tomorrow
    Er wird morgen dem Kellner helfen.
# Negation with kein and nicht.
{who} <do> not need {a thing}.
    who: he, thing: umbrella
    Er braucht keinen Regenschirm.
{who} <be> not {act.ing} {the obj}.
    who: they, act: open, obj: door
    Sie öffnen die Tür nicht.
{who} <be> not {act.ing} {the obj}.
    who: I, act: wait for, obj: taxi
    Ich warte nicht auf das Taxi.
# Questions.
Did {someone} {act.inf} {the adj obj}?
    someone: my sister, act: read, obj: letter, adj of obj: long
    Hat meine Schwester den langen Brief gelesen?
# Subordinate clauses: weil, dass, ob, wenn, relative.
{who} <must> go to the doctor because {who.he} <have> {ache}.
    who: my uncle, ache: a fever
    Mein Onkel muss zum Arzt gehen, weil er Fieber hat.
{who} <know> that {someone2} <be2> {feeling}.
    who: I, someone2: the doctor, feeling: tired
    Ich weiß, dass der Arzt müde ist.
I do not know whether {other} {act.past} {the obj}.
    other: you, act: find, obj: key
    Ich weiß nicht, ob Sie den Schlüssel gefunden haben.
If it is {chill}, {who} <put> on {a warm}.
    chill: cold, who: we, warm: coat
    Wenn es kalt ist, ziehen wir einen Mantel an.
{the unisex} that {who} bought {past} is {size}.
    unisex: hat, who: I, past: yesterday, size: too big
    Der Hut, den ich gestern gekauft habe, ist zu groß.
{the person} with whom {who} talked is {trait}.
    person: woman, who: he, trait: nice
    Die Frau, mit der er gesprochen hat, ist nett.
# Numbers, dates and prices.
{the adj garment} costs {price}.
    garment: suit, adj of garment: gray, price: eighty-two euros fifty
    Der graue Anzug kostet zweiundachtzig Euro fünfzig.
My birthday is on the {ordinal} of {month}.
    ordinal: third, month: May
    Ich habe am dritten Mai Geburtstag.
# Possessives, comparatives, imperatives, reflexives, pronouns.
{who} <have> lost {his carry}.
    who: she, carry: bag
    Sie hat ihre Tasche verloren.
This is {my adj relative}.
    relative: uncle, adj of relative: old, my relative: our
    Das ist unser alter Onkel.
{the longride} is {adj.er} than {the longride2}.
    longride: train, longride2: bus, adj: expensive
    Der Zug ist teurer als der Bus.
Open {the opening}, please!
    opening: window
    Öffnen Sie bitte das Fenster!
Please {refl.inf}!
    refl: sit down
    Bitte setzen Sie sich hin!
{who} <be> {refl.ing} {moment}.
    who: I, refl: get dressed, moment: now
    Ich ziehe mich jetzt an.
{one} broke {his breaklimb} {past}.
    one: I, breaklimb: arm, past: yesterday
    Ich habe mir gestern den Arm gebrochen.
{who} {reflobj.past} {the adj obj}.
    who: we, reflobj: complain about, obj: bill, adj of obj: wrong
    Wir haben uns über die falsche Rechnung beschwert.
{someone} is waiting for {him} in front of {the inside}.
    someone: Peter, him: her, inside: museum
    Peter wartet vor dem Museum auf sie.
{this garment} is {size} for {him}.
    garment: dress, size: too tight, him: her
    Dieses Kleid ist ihr zu eng.
"""


def hand_written_cases():
    lines = [line.strip() for line in SENTENCES.strip().splitlines() if not line.startswith("#")]
    return list(zip(lines[::3], lines[1::3], lines[2::3], strict=True))


@pytest.mark.parametrize(("english", "slots", "german"), hand_written_cases())
def test_german_equals_the_hand_written_translation(english, slots, german):
    frame = next(frame for frame in frames.load_frames() if frame.english == english)
    assert frames.render_frame(frame, parse_filling(slots))[1] == german


def test_english_agrees_with_its_subject():
    frame = frames.parse_frame("test", "{who} <be> {act.ing} {a obj}; {who} {act} it.", "{who} {act} {a obj}.")
    they = frames.render_frame(frame, {"who": word("they"), "act": verb("wash"), "obj": word("apple")})[0]
    anna = frames.render_frame(frame, {"who": word("Anna"), "act": verb("carry"), "obj": word("uniform")})[0]
    assert they == "They are washing an apple; they wash it."
    assert anna == "Anna is carrying a uniform; Anna carries it."


def test_someone_is_one_person_and_other_is_not_the_speaker():
    random = Random(11)
    frame = frames.parse_frame("test", "{someone} has to know that {other2} <be2> here.", "")
    for _ in range(500):
        filling = generator.fill_frame(frame, random)
        assert filling["someone"].person == "er"
        assert filling["other2"].english not in ("I", "we")


def test_one_is_a_single_person_or_pronoun():
    random = Random(13)
    frame = frames.parse_frame("test", "{one} broke {his arm}.", "")
    drawn = {generator.fill_frame(frame, random)["one"].english for _ in range(1000)}
    assert {"I", "you", "he", "she", "Anna"} <= drawn
    assert not {"we", "they", "my parents", "the children"} & drawn


def test_wanted_adds_an_adjective_that_people_ask_for():
    random = Random(17)
    frame = frames.parse_frame("test", "Where can I buy {a wanted umbrella}?", "")
    drawn = {generator.fill_frame(frame, random)["adj of umbrella"].english for _ in range(500)}
    assert {"new", "black"} <= drawn
    assert not {"broken", "old", "expensive"} & drawn


def test_adjective_fits_both_nouns_of_a_comparison():
    random = Random(19)
    fitting_adjectives = lexicon.load_lexicon().fitting_adjectives
    for frame in frames.load_frames():
        if "{adj.er}" in frame.english:
            for _ in range(50):
                filling = generator.fill_frame(frame, random)
                nouns = [filling[slot.name] for slot in frame.slots if slot.base != "adj"]
                assert len(nouns) == 2
                assert all(filling["adj"] in fitting_adjectives[noun] for noun in nouns), frame


def test_frame_does_not_repeat_a_noun():
    """The hotel is not next to a hotel, the doctor does not go to the doctor, and no painter calls himself."""
    random = Random(23)
    for english, slot, banned in [
        ("The hotel is next to {the place}.", "place", {"hotel"}),
        ("{who} <must> go to the doctor because {who.he} <have> {ache}.", "who", {"doctor"}),
    ]:
        frame = next(frame for frame in frames.load_frames() if frame.english == english)
        assert not banned & {generator.fill_frame(frame, random)[slot].key for _ in range(1000)}
    frame = next(frame for frame in frames.load_frames() if frame.english.startswith("{the job} whom {who}"))
    for _ in range(1000):
        filling = generator.fill_frame(frame, random)
        assert filling["job"].key != filling["who"].key


def test_every_frame_can_be_filled():
    random = Random(5)
    for frame in frames.load_frames():
        for _ in range(5):
            english, german = frames.render_frame(frame, generator.fill_frame(frame, random))
            assert not set("{}<>~_") & set(english + german), frame


@pytest.mark.parametrize(
    ("hour", "minute", "english", "german"),
    [
        (1, 0, "one o'clock", "ein Uhr"),
        (12, 30, "half past twelve", "halb eins"),
        (1, 15, "a quarter past one", "Viertel nach eins"),
        (12, 45, "a quarter to one", "Viertel vor eins"),
        (6, 20, "twenty past six", "zwanzig nach sechs"),
        (6, 55, "five to seven", "fünf vor sieben"),
    ],
)
def test_clock_times_in_both_languages(hour, minute, english, german):
    assert grammar.clock(hour, minute) == (english, german)


def test_numbers_and_ordinals_in_both_languages():
    assert grammar.number(16) == ("sixteen", "sechzehn")
    assert grammar.number(71) == ("seventy-one", "einundsiebzig")
    assert grammar.ordinal(1) == ("first", "ersten")
    assert grammar.ordinal(22) == ("twenty-second", "zweiundzwanzigsten")
    assert grammar.ordinal(30) == ("thirtieth", "dreißigsten")
