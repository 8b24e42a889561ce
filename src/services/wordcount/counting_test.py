from wordcount.counting import count


def test_counts_words_regardless_of_case() -> None:
    assert count("/?text=a+b+A") == (200, "application/json", b'{"a":2,"b":1}')
