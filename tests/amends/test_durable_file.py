import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from amends.durable_file import append_line, locked, replace_file


def test_a_replaced_file_is_whole_for_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"a" * 10_000)
    done = threading.Event()

    def read() -> set[bytes]:
        seen = set()
        while not done.is_set():
            seen.add(path.read_bytes())
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for letter in b"bcdefgh":
            replace_file(path, bytes([letter]) * 10_000)
        done.set()
        for content in reader.result():
            assert content == content[:1] * 10_000
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_unfinished_line_is_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, b"one")
    with open(path, "ab") as file:
        file.write(b"tw")
    append_line(path, b"three")
    append_line(path, b"four")
    assert path.read_bytes() == b"one\nthree\nfour\n"


def test_one_thread_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    inside = []

    def enter(number: int) -> None:
        for _ in range(20):
            with locked(tmp_path / "lock"):
                inside.append(number)
                assert len(inside) == 1
                inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(4)))
