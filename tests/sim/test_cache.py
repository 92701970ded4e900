import os
import threading
import time

from weft.sim import cache as cache_module


def make_entry(folder, name, *, hours, size=1000, part=False):
    entry = folder / (f"{name}.part" if part else name)
    entry.mkdir(parents=True)
    (entry / "simulator.so").write_bytes(b"")
    os.truncate(entry / "simulator.so", size)
    (folder / f"{name}.lock").touch()
    for path in (entry, folder / f"{name}.lock"):
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    return entry


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_prune_keeps_the_entries_used_last(tmp_path):
    entries = [make_entry(tmp_path, f"entry{i:02}", hours=2 + i) for i in range(25)]
    cache_module.mark_used(entries[24])
    cache_module.prune(tmp_path)
    kept = sorted([*range(19), 24])
    assert names(tmp_path) == sorted(
        f"entry{i:02}{suffix}" for i in kept for suffix in ("", ".lock"))


def test_prune_keeps_to_the_size(tmp_path):
    for i in range(4):
        make_entry(tmp_path, f"entry{i}", hours=2 + i, size=900 << 20)  # sparse
    cache_module.prune(tmp_path)
    assert names(tmp_path) == ["entry0", "entry0.lock", "entry1", "entry1.lock"]


def test_prune_spares_what_was_used_within_the_hour(tmp_path):
    for i in range(25):
        make_entry(tmp_path, f"entry{i:02}", hours=0.5)
    cache_module.prune(tmp_path)
    assert len(names(tmp_path)) == 50


def test_prune_spares_what_is_locked(tmp_path):
    for i in range(22):
        make_entry(tmp_path, f"entry{i:02}", hours=2 + i, part=i == 21)
    (tmp_path / "entry20.log").write_text("failed")
    os.utime(tmp_path / "entry20.log", (0, 0))
    with cache_module.locked(tmp_path / "entry21.lock"):
        os.utime(tmp_path / "entry21.lock", (0, 0))
        cache_module.prune(tmp_path)
    assert names(tmp_path)[-2:] == ["entry21.lock", "entry21.part"]
    assert not [name for name in names(tmp_path) if name.startswith("entry20")]


def test_prune_removes_old_runtime_objects(tmp_path):
    for i in range(25):
        path = tmp_path / f"runtime-{i:02}"
        path.mkdir()
        os.utime(path, (time.time() - 3600 * (2 + i),) * 2)
    cache_module.prune(tmp_path)
    assert names(tmp_path) == [f"runtime-{i:02}" for i in range(20)]


def test_lock_that_its_holder_removes_is_still_exclusive(tmp_path):
    path = tmp_path / "x.lock"
    inside, most = 0, 0
    mutex = threading.Lock()

    def hold():
        nonlocal inside, most
        for _ in range(20):
            with cache_module.locked(path):
                with mutex:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                with mutex:
                    inside -= 1
                path.unlink()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
