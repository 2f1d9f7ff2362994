"""Word and WordPiece tokenizers restore ordinary text of many scripts as it was written."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transformer_jax.data.tokenizers import SPECIAL_TOKENS, Tokenizer
from transformer_jax.errors import InputError

WORD_KINDS = ("word", "wordpiece")
SENTENCES = {
    "am": "ሰላም፣ «ቡና» እፈልጋለሁ፤ ዋጋው 3.50 ብር ነው። ዶ/ር አለሙ የት ነው?",
    "ar": "قال: «نعم، أريد قهوةً»، ثم ذهب إلى المدينة في الساعة 10:30؛ هل رأيتَه؟",
    "bn": "সে বলল, 'হ্যাঁ'—তারপর ডা. রায় ৩.৫০ টাকা দিল। তুমি কি আসবে?",
    "ca": "La noia intel·ligent va dir: «Sí, n'hi ha 3,5»; l'home no s'ho creu.",
    "cs": "Řekla: „Přijdu v 10.30, ano?“ – a pan Novák (ze 3. patra) se usmál…",
    "de": "Dr. Müller sagte: „Das ist z. B. die U-Bahn-Linie 3“, oder ‚nicht‘? 5 % – ja!",
    "el": "Είπε: «Ναι, στις 10:30»· τι θα 'λεγες για 3,50 ευρώ;",
    "en": "'yes', she said - \"don't (ever) use the dogs' bowl\"; it's a well-known 3.5% rule, e.g. in the U.S.A.!",
    "es": "—¿Qué dijo el Sr. Pérez? —¡Nada! Cuesta 3,50 € o «casi» 1.000.000 de dólares.",
    "fa": "گفت: «می‌خواهم ۳٫۵ کیلو سیب بخرم؛ کتاب‌ها را نمی‌خواهم»، نه؟",
    "fi": "Hän sanoi: ”Tulen klo 10.30”, eikö niin? EU:n raja-alue on 3,5 km:n päässä.",
    "fr": "« L'homme d'aujourd’hui », dit-elle ; est-ce vrai ? Oui ! Il a 10 000 € (soit 3,5 %).",
    "gu": 'તેણે કહ્યું, "હા, હું આવીશ"; ડૉ. પટેલ 10:30 વાગ્યે ક્યાં છે?',
    "he": 'צה"ל הודיע: "כן, בשעה 10:30", וג\'ורג\' (בן 35) שאל: מה זה חז״ל?',
    "hi": 'उसने कहा, "हाँ, मैं आऊँगा"; डॉ. शर्मा का घर १०:३० बजे—क्या तुम आओगे? नहीं।',
    "hy": "Նա ասաց՝ «Այո՛, կգամ ժամը 10։30-ին»։ Ինչո՞ւ եք ուշանում։",
    "it": "L'ho visto all'angolo: «Dov'è l'Sig. Rossi?», po' dopo le 10:30…",
    "ja": "「はい」と田中さんは言った。3月5日、東京タワーでコーヒーを2杯（Starbucks で）飲みました！",
    "ka": "მან თქვა: „დიახ, 10:30-ზე მოვალ“ – არა? ფასი 3,50 ლარია.",
    "km": "គាត់​និយាយ​ថា «បាទ» ហើយ ទៅ​ផ្សារ។ តម្លៃ 3.50 ដុល្លារ?",
    "ko": "그는 '네'라고 말했다. \"3.5%가 맞아요?\" 김 씨(35세)는 10:30에 서울-부산 기차를 탔다.",
    "lo": 'ລາວເວົ້າວ່າ "ແມ່ນ" ແລ້ວ ໄປ ຕະຫຼາດ 10:30.',
    "my": 'သူက "ဟုတ်ကဲ့" လို့ ပြောတယ်။ ဈေးနှုန်း ၃.၅၀ ကျပ်။',
    "nl": "'s Ochtends zei ze: 'Zo'n auto's-winkel, hè?' Het kost € 3,50 (ca. 5 km).",
    "pl": "Powiedziała: „Przyjdę o 10.30 – na pewno?”, a p. Nowak (ur. 1980 r.) milczał…",
    "pt": 'O Sr. João disse-lhe: "Vê-lo-ei às 10h30" – não é? Custa R$ 3,50.',
    "ru": "«Да, — сказал он, — приду в 10:30…» Кто-нибудь видел г-на Иванова? №5!",
    "sv": "Hon sa: ”Kl. 10.30 är EU:s möte”, d.v.s. för 3,5 % – eller hur?",
    "ta": "அவன் 'ஆம்' என்றான்; டாக்டர். குமார் 10:30 மணிக்கு வருவாரா? ரூ. 3.50!",
    "te": 'అతను "అవును" అన్నాడు; డా. రావు 10:30 కి వస్తారా? రూ. 3.50!',
    "th": 'เขาพูดว่า "ใช่" แล้วไป ตลาด ตอน 10:30 น. ราคา 3.50 บาท (ประมาณ) ๆ',
    "tr": "Ayşe'nin evi İstanbul'da: “Saat 10.30’da gel!” dedi; Dr. Yılmaz'a 3,5 TL ver.",
    "uk": "— П'ять хвилин, — сказав він, — об'їзд «Київ-Львів» о 10:30? Так!",
    "ur": 'اُس نے کہا: "ہاں، میں آؤں گا"۔ کیا ڈاکٹر احمد 10:30 بجے آئیں گے؟',
    "vi": 'Cô ấy nói: "Vâng, tôi sẽ đến lúc 10:30" – phải không? Giá 3,50 đ.',
    "zh": "他说：“我喜欢 Python 3.5，也喜欢‘咖啡’。”——真的吗？2024年3月5日（星期二）……",
}
EMOJI = "Yes 👩‍👩‍👧‍👦👍🏽 🇩🇪🇫🇷 ❤️now :-) 1️⃣ http://a.b/c?d=e&f=#g me@x.org #tag @you C++ a_b"


@pytest.fixture(scope="module")
def trained():
    """Return one tokenizer per kind that knows all words of the sentences."""
    texts = [*SENTENCES.values(), EMOJI] * 2
    return {kind: Tokenizer.train(kind, texts, 5000) for kind in WORD_KINDS}


def restored(tokenizer, text):
    [ids] = tokenizer.encode([text])
    return tokenizer.decode([ids])[0]


def words(text):
    """Return the tokens of a text that the vocabulary covers."""
    tokenizer = Tokenizer.train("word", [text, text], 1000)
    return tokenizer.tokens(tokenizer.encode([text])[0])


# Round trip.


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("kind", WORD_KINDS)
def test_sentences_of_many_languages_are_restored(trained, kind, language):
    text = SENTENCES[language]
    assert trained[kind].unk_id not in trained[kind].encode([text])[0]
    assert restored(trained[kind], text) == text


@pytest.mark.parametrize("text", [EMOJI, "intel·ligent", "می‌خواهم", "'yes'", "a - b", "« oui »", "the dogs' bowl"])
@pytest.mark.parametrize("kind", WORD_KINDS)
def test_unusual_spacing_and_symbols_are_restored(kind, text):
    assert restored(Tokenizer.train(kind, [text, text], 300), text) == text


PARTS = st.sampled_from(
    [*"aé日かカกั1_'.-·\"#!$ \u0301\u200d\u200c\u200b\u00a0\u202f\u3000❤🇩", "\ufe0f", "ہ", "हि", "ה"]
)


@given(text=st.lists(PARTS | st.characters(exclude_categories=["Cs"])).map("".join))
@example(text="❤️a a\u0301\u0301\u0301\u0301 b \u0301c a\u200d b")
@example(text="### ## a##b ##")
def test_any_text_without_doubled_spaces_is_restored(text):
    expected = " ".join(part for part in plain_spaces(text).split(" ") if part)
    tokenizer = Tokenizer.train("word", [text, text], 1000)
    [ids] = tokenizer.encode([text])
    assert tokenizer.decode([ids])[0].strip() == expected.strip()


def plain_spaces(text):
    return text.translate(dict.fromkeys(map(ord, "\t\n\v\f\r\x85\u2028\u2029"), " "))


@pytest.mark.parametrize(
    ("text", "decoded"), [("a  b\tc", "a b c"), (" a ", "a"), ("a\r\nb", "a b"), ("a\u00a0!", "a\u00a0!")]
)
@pytest.mark.parametrize("kind", WORD_KINDS)
def test_only_doubled_and_outer_spaces_are_lost(kind, text, decoded):
    assert restored(Tokenizer.train(kind, [text, text], 100), text) == decoded


@pytest.mark.parametrize("kind", WORD_KINDS)
@given(data=st.data())
def test_arbitrary_ids_decode_to_single_spaces(trained, kind, data):
    tokenizer = trained[kind]
    [text] = tokenizer.decode([data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=20))])
    assert "  " not in text
    assert text == text.strip(" ")


# Words.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("intel·ligent don't 3.50 1,000", ["intel·ligent", "don't", "3.50", "1,000"]),
        ("می‌خواهم سیب", ["می‌خواهم", "سیب"]),
        ("'yes'", ["'", "yes", "'"]),
        ('He said "no".', ["He", "said", "▁", '"', "no", '"', "."]),
        ("日本で コーヒー", ["日", "本", "で", "▁", "コーヒー"]),
        ("ที่ ก", ["ที่", "▁", "ก"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("oui\u202f!", ["oui", "\\u202f", "!"]),
        ("👩‍👩‍👧‍👦🇩🇪🇫🇷", ["👩‍👩‍👧‍👦", "🇩🇪", "🇫🇷"]),
    ],
)
def test_text_is_split_at_unicode_word_boundaries(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    "part", [*"a1' 日กカ🇩👍#\u0301\u200d·", "a'", "1,", "a ", ", ", "a\u0301", "👩\u200d", "##", "·\u0301"]
)
@pytest.mark.parametrize("kind", WORD_KINDS)
def test_long_repetitions_take_linear_time(trained, kind, part):
    text = part * (100_000 // len(part))
    start = time.perf_counter()
    restored(trained[kind], text)
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize("kind", WORD_KINDS)
def test_hostile_text_raises_nothing_new(trained, kind):
    with pytest.raises(InputError, match="text 2 contains an unpaired surrogate"):
        trained[kind].encode(["a", "b \ud83d"])
    for text in ("\x00", "\ufeff", "\u202eabc", "\U0010ffff", "a\x1cb", *SPECIAL_TOKENS):
        assert trained[kind].decode(trained[kind].encode([text])) is not None


# Files of earlier versions.

EARLIER_RULES = {
    "normalizer": None,
    "decoder": None,
    "pre_tokenizer": {
        "type": "Split",
        "pattern": {"Regex": r"\d+(?:[.,:]\d+)+|\w+|[^\w\s]"},
        "behavior": "Removed",
        "invert": True,
    },
}


def save_with(tokenizer, rules, path):
    path.write_text(json.dumps(json.loads(tokenizer.to_json()) | rules), encoding="utf-8")


@pytest.mark.parametrize("kind", WORD_KINDS)
def test_earlier_word_rules_are_loaded_and_kept(kind, tmp_path):
    path = tmp_path / "tokenizer.json"
    text = "The well-known man isn't here ( 3.5 )."
    save_with(Tokenizer.train(kind, [text.replace("'", " ' ")] * 2, 300), EARLIER_RULES, path)
    tokenizer = Tokenizer.load(path)
    assert restored(tokenizer, text) == "The well-known man isn't here (3.5)."
    assert "▁" not in "".join(tokenizer.tokens(tokenizer.encode([text])[0]))
    tokenizer.save(tmp_path / "copy.json")
    assert Tokenizer.load(tmp_path / "copy.json").encode([text]) == tokenizer.encode([text])


@pytest.mark.parametrize("kind", WORD_KINDS)
@pytest.mark.parametrize("rules", [*[{name: rule} for name, rule in EARLIER_RULES.items()], {"pre_tokenizer": None}])
def test_a_mixture_of_rules_is_refused(kind, rules, tmp_path):
    path = tmp_path / "tokenizer.json"
    save_with(Tokenizer.train(kind, ["a b"] * 2, 300), rules, path)
    with pytest.raises(InputError, match=r"the rules in .* differ"):
        Tokenizer.load(path)


# Tokens are shown as characters.


def test_bytes_of_one_character_are_shown_as_one_token():
    tokenizer = Tokenizer.train("bpe", ["a b"] * 2, 300)
    ids = [*tokenizer.encode(["aé 日🙂"])[0], tokenizer.eos_id]
    assert tokenizer.tokens(ids) == ["a", "é", "▁", "日", "🙂", "[EOS]"]
    assert tokenizer.token_groups(ids) == [0, 1, 1, 2, 3, 3, 3, 4, 4, 4, 4, 5]


@given(ids=st.lists(st.integers(0, 299), max_size=20))
def test_no_token_is_shown_as_a_number_of_a_byte(ids):
    tokenizer = Tokenizer.train("bpe", ["a b", "日本"] * 2, 300)
    ids = [token_id for token_id in ids if token_id < len(tokenizer)]
    tokens, groups = tokenizer.tokens(ids), tokenizer.token_groups(ids)
    assert "<0x" not in "".join(tokens)
    assert sorted(set(groups)) == list(range(len(tokens)))
    assert groups == sorted(groups)


def test_incomplete_characters_are_shown_as_replacements():
    tokenizer = Tokenizer.train("bpe", ["a b"] * 2, 300)
    first, _, third = tokenizer.encode(["日"])[0]
    assert tokenizer.tokens([first, tokenizer.eos_id, third]) == ["�", "[EOS]", "�"]
    assert tokenizer.token_groups([first, tokenizer.eos_id, third]) == [0, 1, 2]
