import pytest

from pushengine.cli.reporting.config_words import in_config_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if quotes are ordinary characters: --quote none", 'if quotes are ordinary characters: quote = "none"'),
        ("--skip-lines 2; or --no-header", "skip_lines = 2; or header = false"),
        ("--delimiter ':'", 'delimiter = ":"'),
        ("--delimiter ';', or --dialect excel", 'delimiter = ";", or dialect = "excel"'),
        ("push it with --max-drop 1", "push it with max_drop = 1"),
        ("--allow-empty loads an empty extract", "allow_empty = true loads an empty extract"),
        ("--column 'A B=STRING(40)'", 'columns = { "A B" = "STRING(40)" }'),
        ("--names A,B,C", 'names = ["A", "B", "C"]'),
        ("--date-format dd.mm.yyyy", 'date_format = ["dd.mm.yyyy"]'),
        ("--patience 30m", 'patience = "30m"'),
        ("--decimal , --thousands .", 'decimal = "," thousands = "."'),
        ("pushengine show x --config c.toml", "pushengine show x --config c.toml"),
        ("nothing -- here", "nothing -- here"),
    ],
)
def test_flags_are_keys(text, expected):
    assert in_config_words(text) == expected
