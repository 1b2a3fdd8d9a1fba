import random

from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.quality.draw import KEY_SPACE, Draw, apportion, draw_key


def test_a_draw_keeps_the_smallest_keys_whatever_the_order():
    names = [f"file{i}" for i in range(500)]
    expected = sorted(names, key=lambda name: draw_key(3, "p", name))[:40]
    for order in (names, names[::-1], random.Random(0).sample(names, len(names))):
        draw = Draw(40, 3, "p")
        for name in order:
            draw.offer(name)
        assert draw.names() == expected


def test_a_draw_asks_only_about_names_it_would_keep():
    asked = []
    draw = Draw(10, 0, "p")
    for i in range(5000):
        draw.offer(str(i), lambda i=i: asked.append(i) or i % 2 == 0)
    names = draw.names()
    assert names == sorted((str(i) for i in range(0, 5000, 2)), key=lambda name: draw_key(0, "p", name))[:10]
    assert len(asked) < 500


def test_keys_are_uniform_and_independent_across_purposes():
    one = [draw_key(1, "a", str(i)) / KEY_SPACE for i in range(4000)]
    other = [draw_key(1, "b", str(i)) / KEY_SPACE for i in range(4000)]
    assert abs(sum(one) / 4000 - 0.5) < 0.02  # standard error 0.0046
    both = sum(x < 0.5 and y < 0.5 for x, y in zip(one, other, strict=True))
    assert abs(both / 4000 - 0.25) < 0.03


@given(st.integers(0, 400), st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 200), min_size=1))
def test_apportion_gives_out_exactly_the_total_near_the_exact_shares(total, sizes):
    shares = apportion(total, sizes)
    assert shares.keys() == sizes.keys()
    assert sum(shares.values()) == min(total, sum(sizes.values()))
    assert all(0 <= shares[name] <= sizes[name] for name in sizes)
    if total >= len(sizes):
        assert min(shares.values()) >= 1
        lifted = sum(total * size < sum(sizes.values()) for size in sizes.values())  # names whose exact share is below one
        if not lifted:
            exact = {name: min(size, total * size / sum(sizes.values())) for name, size in sizes.items()}
            assert all(abs(shares[name] - exact[name]) < 1 + 1e-9 for name in sizes)


def test_apportion_does_not_depend_on_the_order_of_names():
    sizes = {"a": 5, "b": 5, "c": 5, "d": 1}
    assert apportion(7, sizes) == apportion(7, dict(reversed(sizes.items())))
