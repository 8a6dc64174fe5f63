"""Which encoding fits text that is not UTF-8."""

import pytest

from pushengine.sources.csv.structure.encodings import fitting_encoding

TEXTS = {
    "cp1252": "ID;NAME\n1;Müller & Söhne\n2;Straße\n3;Café naïve\n4;10 €\n",
    "cp1250": "ID;NAME\n1;Łódź\n2;Wrocław\n3;Příliš žluťoučký kůň\n",
    "cp850": "ID;NAME\n1;Müller\n2;Straße\n3;Größe\n",
    "mac_roman": "ID;NAME\n1;Müller\n2;Straße\n3;Größe\n4;Café\n",
    "cp1251": "ID;NAME\n1;Привет мир\n2;Москва\n",
    "koi8_r": "ID;NAME\n1;Привет мир\n2;Москва\n",
    "shift_jis": "ID;NAME\n1;こんにちは\n2;東京都\n3;カタカナ\n",
    "euc_jp": "ID;NAME\n1;こんにちは\n2;東京都\n",
    "gb18030": "ID;NAME\n1;北京市\n2;上海\n3;有限公司\n",
    "big5": "ID;NAME\n1;臺北市\n2;有限公司\n",
    "euc_kr": "ID;NAME\n1;서울특별시\n2;부산\n",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_the_encoding_that_fits(encoding):
    assert fitting_encoding(TEXTS[encoding].encode(encoding)) == encoding


def test_western_is_the_guess_if_nothing_speaks_against_it():
    assert fitting_encoding(b"ID\n\xa7 1\n") == "cp1252"
    assert fitting_encoding(b"ID\n\x93Hello\x94 \x96 it\x92s 5 m\xb3\n") == "cp1252"
    assert fitting_encoding(b"") == "cp1252"
