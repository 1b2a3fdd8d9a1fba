import io

from megatron_snow.artifacts.progress import Progress, track


def test_line_shows_share_rate_and_eta():
    with Progress("scoring", total=10, unit="files", stream=io.StringIO()) as bar:
        bar.advance(5)
        line = bar.line()
    assert "5/10 files" in line
    assert "50 %" in line
    assert "ETA" in line


def test_log_file_gets_plain_lines_and_the_end():
    stream = io.StringIO()
    with Progress("reading", total=3, stream=stream) as bar:
        for _ in range(3):
            bar.advance()
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()
    assert "3/3" in stream.getvalue()


def test_track_yields_everything():
    assert list(track(range(4), "counting")) == [0, 1, 2, 3]
