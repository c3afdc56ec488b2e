"""Tables of public data sets: their headers, a few rows in their format, and what should be read from them."""

from __future__ import annotations

from typing import NamedTuple


class Table(NamedTuple):
    """A data set.

    Attributes:
        file: its name, which gives the format.
        text: its content.
        wanted: the expected first row: texts and label; words and labels; question, context and answer.
        says: options that are necessary; "" if none are needed, "?" if the error names the right ones itself.
    """

    file: str
    text: str
    wanted: tuple[object, ...]
    says: str = ""
    task: str = "text-classification"


def tabs(*rows: str) -> str:
    return "\n".join("\t".join(row.split("|")) for row in rows) + "\n"


GOOD, BAD = "a film that is good", "it is a bad film"
MOOD = (GOOD, None, "1")
PAIR = (GOOD, BAD, "1")


def rows(pattern: str, *labels: str) -> str:
    """Rows of a csv: {t} is a text, {u} another text, {n} a number, {y} one of the labels in turn."""
    made = [
        pattern.format(t=(GOOD, BAD)[n % 2], u=(BAD, GOOD)[n % 2], n=17 + n, y=labels[n % len(labels)])
        for n in range(6)
    ]
    return "\n".join(made) + "\n"


TABLES: dict[str, Table] = {
    "glue sst2": Table("a.tsv", tabs("sentence|label", f"{GOOD}|1", f"{BAD}|0"), MOOD),
    "glue cola, as it comes": Table(
        "a.tsv", tabs(f"gj04|1||{GOOD}", f"gj04|0|*|{BAD}", f"bc01|1||{GOOD} too"), MOOD, "?"
    ),
    "glue cola, of the hub": Table("a.csv", "sentence,label,idx\n" + rows("{t},{y},{n}", "1", "0"), MOOD),
    "glue mrpc": Table(
        "a.tsv",
        "\ufeff" + tabs("Quality|#1 ID|#2 ID|#1 String|#2 String", f"1|7|8|{GOOD}|{BAD}", f"0|9|6|{BAD}|{GOOD}"),
        PAIR,
    ),
    "glue qqp": Table(
        "a.tsv",
        tabs("id|qid1|qid2|question1|question2|is_duplicate", f"5|6|7|{GOOD}|{BAD}|1", f"5|6|7|{BAD}|{GOOD}|0"),
        PAIR,
    ),
    "glue stsb": Table(
        "a.tsv",
        tabs(
            "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score",
            f"0|main|MSR|2012|1|none|none|{GOOD}|{BAD}|2.5",
            f"1|main|MSR|2012|4|none|none|{BAD}|{GOOD}|3.8",
        ),
        (GOOD, BAD, "2.5"),
    ),
    "glue mnli": Table(
        "a.tsv",
        tabs(
            "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse|sentence1|sentence2|label1|gold_label",
            f"0|31|31n|gov|( x )|( y )|{GOOD}|{BAD}|neutral|neutral",
            f"1|32|31e|gov|( x )|( y )|{BAD}|{GOOD}|neutral|entailment",
        ),
        (GOOD, BAD, "neutral"),
    ),
    "glue qnli": Table(
        "a.tsv", tabs("index|question|sentence|label", f"0|{GOOD}|{BAD}|yes", f"1|{BAD}|{GOOD}|no"), (GOOD, BAD, "yes")
    ),
    "glue rte": Table(
        "a.tsv",
        tabs("index|sentence1|sentence2|label", f"0|{GOOD}|{BAD}|yes", f"1|{BAD}|{GOOD}|no"),
        (GOOD, BAD, "yes"),
    ),
    "ag news, of the hub": Table("a.csv", "text,label\r\n" + rows("{t},{y}", "1", "0").replace("\n", "\r\n"), MOOD),
    "ag news, of kaggle": Table(
        "a.csv", "Class Index,Title,Description\n" + rows('{y},"{t}","{u}"', "1", "2"), PAIR, "?"
    ),
    "ag news, without a header": Table("a.csv", rows('"{y}","{t}","{u}"', "1", "2"), PAIR, "?"),
    "imdb": Table("a.csv", "review,sentiment\n" + rows('"{t}",{y}', "positive", "negative"), (GOOD, None, "positive")),
    "banking77": Table(
        "a.csv", "text,category\n" + rows("{t},{y}", "card_arrival", "top_up"), (GOOD, None, "card_arrival")
    ),
    "clinc": Table(
        "a.csv", "utterance,intent\n" + rows("{t},{y}", "balance", "translate"), (GOOD, None, "balance"), "?"
    ),
    "clinc, numbered": Table(
        "a.csv", "id,utterance,intent\n" + rows("{n},{t},{y}", "balance", "translate"), (GOOD, None, "balance"), "?"
    ),
    "clinc, with the texts known": Table(
        "a.csv", "text,intent\n" + rows("{t},{y}", "balance", "translate"), (GOOD, None, "balance"), "?"
    ),
    "pandas": Table("a.csv", ",text,label\n" + rows("{n},{t},{y}", "1", "0"), MOOD),
    "pandas, other names": Table(
        "a.csv", ",utterance,intent\n" + rows("{n},{t},{y}", "a", "b"), (GOOD, None, "a"), "?"
    ),
    "pandas, no names": Table("a.csv", "0,1\n" + rows("{t},{y}", "1", "0"), MOOD, "?"),
    "pandas, no names, numbered": Table("a.csv", ",0,1\n" + rows("{n},{t},{y}", "1", "0"), MOOD, "?"),
    "numbered, without a header": Table("a.csv", rows("{n},{t},{y}", "a", "b"), (GOOD, None, "a"), "?"),
    "named in capitals": Table("a.csv", "Text,Label\n" + rows("{t},{y}", "1", "0"), MOOD),
    "amazon reviews": Table(
        "a.csv",
        "Id,ProductId,UserId,ProfileName,HelpfulnessNumerator,HelpfulnessDenominator,Score,Time,Summary,Text\n"
        + rows('{n},B00,A3S,del,1,1,{y},1303862400,{u},"{t}"', "5", "1"),
        (GOOD, None, "5"),
    ),
    "yelp reviews": Table("a.csv", "label,text\n" + rows('{y},"{t}"', "4", "0"), (GOOD, None, "4")),
    "yelp, with a fraction": Table(
        "a.jsonl",
        rows('{{"review_id": "x{n}", "stars": {y}, "text": "{t}"}}', "5.0", "1.0"),
        (GOOD, None, "5.0"),
        "--problem single_label_classification",
    ),
    "emotion": Table("a.csv", "text,label\n" + rows("{t},{y}", "3", "0"), (GOOD, None, "3")),
    "trec": Table("a.csv", "text,coarse_label,fine_label\n" + rows("{t},{y},{n}", "2", "0"), (GOOD, None, "2"), "?"),
    "snli, of the hub": Table("a.csv", "premise,hypothesis,label\n" + rows("{t},{u},{y}", "1", "0"), PAIR),
    "paws": Table("a.tsv", tabs("id|sentence1|sentence2|label", f"1|{GOOD}|{BAD}|1", f"2|{BAD}|{GOOD}|0"), PAIR),
    "sick": Table(
        "a.tsv",
        tabs(
            "pair_ID|sentence_A|sentence_B|relatedness_score|entailment_judgment",
            *[f"{n}|{(GOOD, BAD)[n % 2]}|{BAD}|4.{n}|{('NEUTRAL', 'ENTAILMENT')[n % 2]}" for n in range(6)],
        ),
        (GOOD, BAD, "NEUTRAL"),
        "?",
    ),
    "hate speech": Table(
        "a.csv",
        ",count,hate_speech,offensive_language,neither,class,tweet\n" + rows('{n},3,0,0,3,{y},"{t}"', "2", "1"),
        (GOOD, None, "2"),
    ),
    "sms spam": Table("a.csv", "v1,v2,,,\n" + rows('{y},"{t}",,,', "ham", "spam"), (GOOD, None, "ham"), "?"),
    "sentiment140": Table(
        "a.csv", rows('"{y}","{n}","Mon Apr 06","NO_QUERY","user{n}","{t}"', "0", "4"), (GOOD, None, "0"), "?"
    ),
    "financial phrases": Table(
        "a.csv", rows('{y},"{t} {n}"', "neutral", "positive"), (f"{GOOD} 17", None, "neutral"), "?"
    ),
    "airlines": Table(
        "a.csv",
        "tweet_id,airline_sentiment,airline,text\n" + rows("57{n},{y},United,{t}", "neutral", "negative"),
        (GOOD, None, "neutral"),
        "--label-column airline_sentiment",
    ),
    "lines of json": Table("a.jsonl", rows('{{"sentence": "{t}", "label": {y}}}', "1", "0"), MOOD),
    "lines of json, other names": Table(
        "a.jsonl",
        rows('{{"utterance": "{t}", "intent": "{y}"}}', "a", "b"),
        (GOOD, None, "a"),
        "--text-column utterance --label-column intent",
    ),
    "text only": Table("a.csv", "body\nsome text\nmore text\n", (("some text",),), "?", "mlm"),
    "ner, of kaggle": Table(
        "a.csv",
        "Sentence #,Word,POS,Tag\nSentence: 1,Ann,NNP,B-per\n,ran,VB,O\nSentence: 2,Bob,NNP,B-per\n",
        (("Ann", "ran"), ("B-per", "O")),
        "",
        "token-classification",
    ),
    "conll, with a header": Table(
        "a.conll",
        "word tag\nAnn B-PER\nran O\n\nBob B-PER\n",
        (("Ann", "ran"), ("B-PER", "O")),
        "",
        "token-classification",
    ),
    "conll, with an unknown header": Table(
        "a.tsv",
        tabs("Form|Upos", "Ann|PROPN", "ran|VERB", "Bob|PROPN", "sat|VERB"),
        (("Ann", "ran", "Bob", "sat"), ("PROPN", "VERB") * 2),
        "--header",
        "token-classification",
    ),
    "squad, flat": Table(
        "a.csv",
        'id,title,context,question,answer_text,answer_start\n1,Film,"a film, by Ann","   Who?",Ann,11\n',
        ("Who?", "a film, by Ann", "Ann"),
        "",
        "question-answering",
    ),
    "squad, other names": Table(
        "a.csv",
        'para,q,a,at\n"a film, by Ann",Who?,Ann,11\n',
        ("Who?", "a film, by Ann", "Ann"),
        "--columns question=q context=para answers=a answer_start=at",
        "question-answering",
    ),
    "swag": Table(
        "a.csv",
        ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
        "0,v,1,A B,A,B,gold,c,d,e,f,2\n",
        ("A", "B e"),
        "",
        "multiple-choice",
    ),
    "race": Table(
        "a.jsonl",
        '{"article": "A", "question": "B", "options": ["c", "d"], "answer": "B"}\n',
        ("A", "B d"),
        "",
        "multiple-choice",
    ),
    "choices with other names": Table(
        "a.csv",
        "stem,one,two,right\nA,c,d,1\n",
        ("A", "d"),
        "--columns prompt=stem choices=one,two --label-column right",
        "multiple-choice",
    ),
}
