"""Texts and their sentences: what a reader would call one, with the white space after it.

Law of this file: each row is one text, its parts concatenate to it. A row that is a choice and not a fact says so.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BY_LANGUAGE", "GOLDEN"]

BY_LANGUAGE: Final[dict[str, list[list[str]]]] = {
    "en": [
        ["Hello there. ", "How are you? ", "Fine!"],
        ["It costs 3.14 dollars. ", "Pay now."],
        ["Version 2.0.1 is out. ", "Get it at example.com/path.html today."],
        ["See https://example.com/a.b?c=d.e. ", "Then go."],
        ["Dr. Smith met Mrs. Jones. ", "They talked."],
        ["J. R. R. Tolkien wrote it. ", "I read it."],
        ["Use a tool, e.g. a hammer. ", "Or not."],
        ["That is, i.e. this one, is good. ", "Yes."],
        ["We met at 5 p.m. ", "Then we left."],
        ["He lives in the U.S. ", "She does not."],
        ["See Fig. 3 and No. 5 for details. ", "The rest is clear."],
        ["He said no. ", "Then he left."],
        ["Well... maybe not. ", "Wait… ", "What?"],
        ["Really?! ", "Yes!!! ", "No."],
        ['"Stop." ', "He stopped."],
        ["“Come in.” ", "She came in."],
        ['"Really?" she asked. ', "He nodded."],
        ["(This is an aside.) ", "This is not."],
        ["It works (mostly.) and well. ", "Good."],
        ["*Bold claim.* ", "Proof follows."],
        ["He ate eggs etc. and left. ", "Fine."],
        ["Is it a.b or c.d? ", "Neither."],
        ["The year was 2024. ", "All was well."],
        ["Acme vs. Foo was decided. ", "Next case."],
        ["One sentence.\n", "Another one."],
        ["A heading\n\n", "A paragraph without end\n\n", "Another."],
        ["No end here, only text"],
        ["Below -5. ", "Above 5 - 3 it ends."],
        ["It grew 3.5% in Q1. ", "Then it fell 1,234.56 points."],
        ["Write to jane.doe@example.org. ", "She answers."],
        ["Open main.py and README.md. ", "Then run ./build.sh now."],
        ["Python 3.12.1 is fine. ", "Not so 2.0.0-rc.1."],
        ["The server is 192.168.0.1. ", "Its port is 8080."],
        ["It starts at 10:30. ", "Be there at 9.45."],
        ["On Jan. 5 we met. ", "By Dec. 24 it was over."],
        ["On 2024-01-05. ", "On 05.01.2024. ", "On 1/5/24."],
        ["Louis XIV. was king. ", "Henry VIII was too."],
        ["See chapter IV. ", "It is short."],
        ["“He said ‘No.’ ", "Loudly.” ", "She left."],
        ["She asked, “Why?” and left. ", "Nobody knew."],
        ["“Who?” ", "“Me.” ", "They laughed."],
        ["Hmm... ", "OK then."],
        ["“And so…” ", "He paused."],
        ["I. Introduction\n\n", "II. Methods\n\n", "Text."],
        ["He works at Acme Inc. and Foo Ltd. as well. ", "Good."],
        ["The temperature is -3.5 °C. ", "Cold."],
        ["Is 0.1 + 0.2 == 0.3? ", "No."],
        ["Call me at 555.123.4567. ", "Thanks."],
        ["A: yes. ", "B: no."],
        ["[It is here.] ", "And there."],
        ["Wow!!! ", "(Really.) ", "OK."],
        ["He asked “what?”. ", "I said nothing."],
        ["The U.K. and the U.S. agreed. ", "Others did not."],
        ["Ask Sen. Kane, Gov. Lee and Rep. Roe. ", "They know."],
        ["It is (approx.) 5 km. ", "Enough."],
        ["Plan B. Then C."],  # a choice: a letter before a full stop is an initial
        ["It stopped. iOS did not."],  # another: a lower-case letter goes on,
        # Markdown
        ["Steps:\n", "1. Open the box.\n", "2. Close it.\n", "10) Rest."],
        ["Items\n", "- first\n", "- second. ", "Still second.\n", "* third"],
        ["# Title\n", "## Part\n", "Text that wraps\nover two lines. ", "End."],
        ["Look:\n", "```py\nprint('a. B')\n\nx = 1. \nY\n```\n", "Done. ", "Yes."],
        ["~~~\nA. B. C! D\n~~~\n", "After it."],
        ["See:\n", "````md\n```py\nA. B\n```\nC. D\n````\n", "Out. ", "Yes."],
        ["Not closed:\n", "```\nA. B\n\nC! D\n"],
        ["```py\nA. B\n```py\nC. D\n```\n", "Out."],
        ["~~~\nA. B\n```\nC. D\n~~~\n", "Out."],
        ["Before.\n  ", "```\n  A. B\n  ```\n", "After. ", "Yes."],
        ["```one. Two``` is code. ", "So it goes on."],
        ["Call `a.b(c. D)` now. ", "Then stop."],
        ["Run `make.` ", "Then go."],
        ["A `stray tick. Here\nit goes. ", "Yes."],  # a choice: a tick is closed by the end of its line
        ["| a. B | c! D |\n", "|---|---|\n", "| e. F | g |\n\n", "After. ", "Yes."],
        ["> Quoted. ", "Twice.\n", "> Again.\n\n", "Not."],
        ["1. One. ", "Still one.\n   ", "More of it. ", "End."],
        ["###### Deep\n", "Text. ", "More."],
        ["The sum $a_1.5 + b$ holds. ", "So does $x = 3$. ", "End."],
        ["Let $$x = 1.5$$ be. ", "Then go."],
        ["**Note.** ", "This matters. ", "_Really._ ", "Yes."],
        ["[A link.](https://a.b/c.d) Then text."],  # a choice: the link goes on behind its bracket
        # Emoji, marks, flags, keycaps
        ["Done! ", "🎉 Party."],
        ["Great 🎉. ", "Next."],
        ["Family 👩‍👩‍👧‍👦! ", "👍🏽 Yes."],
        ["From 🇩🇪 to 🇫🇷. ", "🏴󠁧󠁢󠁳󠁣󠁴󠁿 too."],
        ["Press 1️⃣. ", "Then #️⃣."],
        ["Cafe\u0301. ", "E\u0301tude."],
        ["OK 👌🏿!!! ", "😀 Right? ", "❤️‍🔥."],
    ],
    "de": [
        ["Das ist z. B. ein Test. ", "Er geht weiter."],
        ["Das gilt z.B. hier bzw. dort. ", "Gut."],
        ["Am 3. Oktober ist Feiertag. ", "Alle ruhen."],
        ["Er kam als 1. ins Ziel. ", "Toll!"],
        ["Prof. Dr. Müller kommt ca. 5 Minuten später. ", "Warten wir?"],
        ["„Komm her.“ ", "Sie kam."],
        ["Das kostet 1.234,56 Euro. ", "Zu viel."],
        ["Vgl. Abb. 3 auf S. 5 des Buchs. ", "Ende."],
        ["»Nein.« ", "Er ging. ", "»Doch!«, rief sie."],
        ["Am 24.12.2024 um 18.30 Uhr. ", "Bis dann!"],
        ["Das geht u. a. so. ", "Oder anders."],
    ],
    "zh": [
        ["你好。", "今天天气很好！", "你呢？", "我也很好。"],
        ["他说：“走吧。”", "然后走了。"],
        ["价格是3.5元。", "很便宜。"],
        ["真的吗？！", "是的。"],
        ["我想……也许不行。", "算了。"],
        ["混合 text here. ", "下一句。", "Next one."],
        ["他问：「為什麼？」", "沒有人回答。"],
        ["使用 Python 3.12。", "然后运行 main.py。"],
        ["见《红楼梦》。", "好书！"],
        ["你好👋。", "再见👋！"],
    ],
    "ja": [
        ["「行こう。」と言った。", "彼は出た。"],
        ["これはペンです。", "あれは本です。"],
        ["そうですか？ ", "はい。"],
        ["（注意。）", "続き。"],
        ["「はい。」", "「いいえ。」", "終わり。"],
        ["本当！？", "うそ。"],
        ["半角｡", "次｡"],
    ],
    "ko": [
        ["안녕하세요. ", "반갑습니다! ", "잘 지내요?"],
        ["가격은 3.5달러입니다. ", "비싸요."],
        ["그는 “가자.”라고 말했다. ", "그리고 갔다."],
    ],
    "hi": [
        ["यह एक वाक्य है। ", "यह दूसरा है।"],
        ["क्या हाल है? ", "ठीक है। ", "३.१४ एक संख्या है।"],
        ["पहला॥", "दूसरा॥"],
    ],
    "ar": [
        ["هل أنت بخير؟ ", "نعم."],
        ["مرحبا. ", "كيف حالك؟ ", "أنا بخير."],
        ["قال: «نعم.» ", "ثم خرج."],
        ["اشترى خبزا، ولبنا، وتمرا. ", "ثم عاد."],
        ["السعر 3.5 دولار. ", "غال جدا!"],
    ],
    "ur": [
        ["یہ ایک جملہ ہے۔ ", "یہ دوسرا ہے۔"],
    ],
    "th": [
        ["สวัสดีครับ วันนี้อากาศดี ไปเที่ยวกันไหม"],
        ["บรรทัดแรก\n\n", "บรรทัดที่สอง"],
    ],
    "es": [
        ["¿Cómo estás? ", "¡Muy bien! ", "Gracias."],
        ["Dijo que sí. ", "¿Y tú? ", "Nada."],
    ],
    "fr": [
        ["Vraiment ? ", "Oui ! ", "C’est vrai."],
        ["« Non ! » dit-il. ", "Elle partit."],
        ["Il dit : « Oui. » ", "Puis il sortit."],
        ["M. Dupont est là. ", "Bien."],
    ],
    "ru": [
        ["Привет. ", "Как дела? ", "Хорошо!"],
    ],
    "el": [
        ["Γεια σου. ", "Τι κάνεις;"],
    ],
    "hy": [
        ["Բարև։ ", "Ինչպես ես։"],
    ],
    "my": [
        ["သည်စာကြောင်း။", "ဒုတိယ။"],
    ],
    "tr": [
        ["Merhaba. ", "Nasılsın? ", "İyiyim."],
    ],
    "pt": [
        ["Olá! ", "Tudo bem? ", "Sim."],
    ],
    "vi": [
        ["Xin chào. ", "Bạn khỏe không? ", "Tốt."],
    ],
    "he": [
        ["שלום. ", "מה שלומך? ", "טוב."],
    ],
}

GOLDEN: Final = [row for rows in BY_LANGUAGE.values() for row in rows]
"""All of them."""
