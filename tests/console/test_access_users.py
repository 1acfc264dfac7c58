from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.console.access.users import MAX_BYTES, Users, UsersFileError, read_users
from tests.console.logging_in import users_text

GOOD = "$2b$04$" + "audAhBMH7tLYetcHBemXIuozk.yvjOE284ZHLVrKzhwcbed0EQJJO"


def wrong(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(UsersFileError) as raised:
        read_users(data, "users")
    return str(raised.value)


def test_names_and_hashes_are_read() -> None:
    lines = ["# who", "", f"anna:{GOOD}\r", f"jürgen:$2y{GOOD[3:]}", "  ", f"go:$2a{GOOD[3:]}"]
    users = read_users(b"\xef\xbb\xbf" + "\n".join(lines).encode(), "users")
    assert set(users.hashes) == {"anna", "jürgen", "go"}
    assert "anna" in users
    assert "Anna" not in users


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("anna:$apr1$abcdefgh$1234567890123456789012", "an MD5 hash"),
        ("anna:$1$abcdefgh$1234567890123456789012", "an MD5 hash"),
        ("anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "a SHA-1 hash"),
        ("anna:$6$salt$abc", "a SHA-crypt hash"),
        ("anna:$argon2id$v=19$m=65536,t=3,p=4$abc$def", "an Argon2 hash"),
        ("anna:$y$j9T$abc$def", "a scrypt hash"),
        ("anna:rqXexS6ZhobKA", "a DES-crypt hash or a plain password"),
        ("anna:hunter2 is my password", "of an unknown kind"),
        ("anna:" + GOOD[:-1], "a bcrypt hash that is not whole"),
        ("anna:" + GOOD + ":more", "a bcrypt hash that is not whole"),
        ("anna:" + GOOD.replace("$2b$", "$2x$"), "a bcrypt hash that is not whole"),
        ("anna:*", "no hash"),
        ("anna", "name:hash"),
        (":" + GOOD, "name:hash"),
        ("anna:", "name:hash"),
        (" anna:" + GOOD, "without blanks"),
        ("an\x07na:" + GOOD, "printable"),
        ("a" * 200 + ":" + GOOD, "printable"),
        ("anna:" + GOOD.replace("$04$", "$16$"), "the cost 16"),
        ("anna:" + GOOD.replace("$04$", "$03$"), "the cost 03"),
    ],
)
def test_what_cannot_be_used_is_named_by_line_and_never_repeated(line: str, words: str) -> None:
    said = wrong(f"# first\nvera:{GOOD}\n{line}\n")
    assert said.startswith("users:3: ")
    assert words in said
    secret = line.partition(":")[2]
    assert len(secret) < 3 or secret not in said
    if "hash" in words or "kind" in words:
        assert "htpasswd -B -C 12" in said


def test_all_that_is_wrong_is_said_at_once() -> None:
    said = wrong(f"anna:{GOOD}\nanna:{GOOD}\nvera:plain\n")
    assert [line.split(": ")[0] for line in said.splitlines()] == ["users:2", "users:3"]
    assert "anna is there twice" in said


def test_other_encodings_and_huge_files_are_refused() -> None:
    assert wrong(f"anna:{GOOD}\njürgen:{GOOD}\n".encode("latin-1")).startswith("users:2: this is no UTF-8")
    assert "1 MiB" in wrong(b"#" * (MAX_BYTES + 1))


def test_a_line_is_known_again_only_while_it_is_the_same() -> None:
    before, after = read_users(users_text().encode(), "users"), read_users(f"anna:{GOOD}\n".encode(), "users")
    assert before.line("anna") not in ("", before.line("vera"), after.line("anna"))
    assert after.line("vera") == ""
    renamed = Users({"berta": before.hashes["anna"]})
    assert renamed.line("berta") != before.line("anna")


def test_an_unknown_name_always_gets_the_same_hash_of_somebody() -> None:
    users = Users({f"user {number}": f"hash {number}".encode() for number in range(50)})
    picked = {name: users.hash_for(name) for name in map(str, range(200))}
    assert picked == {name: users.hash_for(name) for name in picked}
    assert len(set(picked.values())) > 20
    assert Users({}).hash_for("x").startswith(b"$2b$12$")


def test_hashes_that_are_quick_to_guess_are_named() -> None:
    users = read_users(f"anna:{GOOD}\nvera:{GOOD.replace('$04$', '$12$')}\n".encode(), "users")
    assert users.quick == ("anna",)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(UsersFileError):
        assert all(len(found) == len(GOOD) for found in read_users(data, "users").hashes.values())


def test_a_users_file_does_not_show_its_hashes() -> None:
    assert GOOD not in repr(read_users(f"anna:{GOOD}\n".encode(), "users"))
