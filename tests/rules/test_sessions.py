"""Sessions on a store in dictionaries: what must hold where a user has several, as the data allows."""

from __future__ import annotations

import pytest

from gateway.engines.effects import Attachment, Holder, Publication, Session
from gateway.engines.transaction import SessionRecord
from gateway.errors import UsernameTaken
from gateway.rules.sessions import Claim, ResumePoint
from gateway.tokens import hash_token
from rules.conftest import Rules
from rules.dictionary import call

pytestmark = pytest.mark.fast


def add_session(rules: Rules, username: str, name: str) -> Session:
    """One more live session of a user, on a connection named like it."""
    session = Session(f"s-{name}", f"p-{name}", username)
    holder = Holder(f"c-{name}", "there")
    record = SessionRecord(session.sid, username, hash_token(session.pid), None, holder, None, True, 0)
    rules.engine.data.sessions[session.sid] = record
    return session


def presence(rules: Rules) -> list[bytes]:
    return [effect.body for effect in rules.recorder.publications if effect.event == "presence"]


@pytest.fixture(name="phone")
def _phone(rules: Rules) -> Session:
    """The second session of alice, who shares a room with bob."""
    rules.login("alice", "bob")
    call(rules.store.create_room("bob", "tea", ("alice",)))
    return add_session(rules, "alice", "phone")


def laptop(rules: Rules) -> Session:
    """The first session of alice."""
    attached = [effect for effect in rules.recorder.effects if isinstance(effect, Attachment)]
    return next(effect.session for effect in attached if effect.session.username == "alice")


def test_a_user_is_offline_when_the_last_session_is_lost(rules: Rules, phone: Session) -> None:
    first = laptop(rules)
    call(rules.store.suspend_session(first, "c-alice"))
    assert presence(rules) == []
    call(rules.store.suspend_session(phone, "c-phone"))
    assert presence(rules) == [b'{"room":"tea","username":"alice","online":false}']
    call(rules.store.attach_session(Claim("alice", "c-back", ResumePoint(phone.pid, "1"))))
    assert presence(rules)[1:] == [b'{"room":"tea","username":"alice","online":true}']
    call(rules.store.attach_session(Claim("alice", "c-again", ResumePoint(first.pid, "1"))))
    assert len(presence(rules)) == 2


def test_a_user_stays_in_its_rooms_until_the_last_session_ends(rules: Rules, phone: Session) -> None:
    call(rules.store.end_session(laptop(rules), "c-alice"))
    assert [room.room for room in call(rules.store.list_rooms("alice"))] == ["tea"]
    call(rules.store.end_session(phone, "c-phone"))
    assert call(rules.store.list_rooms("alice")) == ()
    assert [event for event, _ in rules.recorder.events][-1] == "user-left"


def test_sessions_of_a_user_expire_one_by_one(rules: Rules, phone: Session) -> None:
    call(rules.store.suspend_session(laptop(rules), "c-alice"))
    rules.engine.now += 60_000
    call(rules.store.suspend_session(phone, "c-phone"))
    rules.engine.now += 70_000
    assert call(rules.store.end_expired_sessions()) == 1
    assert [room.room for room in call(rules.store.list_rooms("alice"))] == ["tea"]
    rules.engine.now += 60_000
    assert call(rules.store.end_expired_sessions()) == 1
    assert call(rules.store.list_rooms("alice")) == ()


def test_a_room_ends_when_its_members_expire_together(rules: Rules) -> None:
    """Each of them has been read as one of several."""
    rules.login("alice", "bob")
    call(rules.store.create_room("bob", "tea", ("alice",)))
    for effect in [effect for effect in rules.recorder.effects if isinstance(effect, Attachment)]:
        call(rules.store.suspend_session(effect.session, effect.holder.connection))
    rules.engine.now += 200_000
    assert call(rules.store.end_expired_sessions()) == 2
    assert rules.engine.data.rooms == {}


def test_one_session_of_a_user_is_enough_to_hold_the_name(rules: Rules, phone: Session) -> None:
    """That a user has one session at most is this rule, and no other."""
    call(rules.store.suspend_session(laptop(rules), "c-alice"))
    rules.engine.now += 100_000
    with pytest.raises(UsernameTaken):
        call(rules.store.attach_session(Claim("alice", "c-new")))
    call(rules.store.suspend_session(phone, "c-phone"))
    rules.engine.now += 61_000
    session = call(rules.store.attach_session(Claim("alice", "c-new")))
    assert [record.sid for record in rules.engine.data.sessions.values() if record.username == "alice"] == [session.sid]


def test_a_session_is_attached_on_the_node_that_ran_the_rule(rules: Rules, phone: Session) -> None:
    call(rules.store.attach_session(Claim("alice", "c-back", ResumePoint(phone.pid, "1"))))
    attached = rules.recorder.last_attachment
    assert (attached.holder, attached.replaces) == (Holder("c-back", "here"), Holder("c-phone", "there"))


def test_events_missed_in_a_room_left_since_prevent_recovery_of_every_session(rules: Rules, phone: Session) -> None:
    """None of them can recover what was published in a room that the user has left since."""
    call(rules.store.suspend_session(phone, "c-phone"))
    call(rules.store.append_message("bob", "tea", "hello", None))
    call(rules.store.remove_member("alice", "tea"))
    call(rules.store.attach_session(Claim("alice", "c-back", ResumePoint(phone.pid, "1"))))
    assert not rules.recorder.last_attachment.recovered


def test_a_user_with_several_sessions_receives_an_invitation_as_one_member(rules: Rules, phone: Session) -> None:
    call(rules.store.create_room("bob", "jam", ("alice",)))
    invitations = [
        effect for effect in rules.recorder.publications if effect.event == "room-joined" and effect.room == "jam"
    ]
    assert [effect.recipients for effect in invitations if isinstance(effect, Publication)] == [("alice",)]
    assert call(rules.store.list_members("bob", "jam", "", 10)).member_count == 2


# --- a node that is gone


def test_what_was_live_on_a_node_that_is_gone_is_suspended(rules: Rules, phone: Session) -> None:
    """The user stays online as long as another session is live; the window of the suspended one begins now."""
    rules.engine.now = 5_000
    assert call(rules.store.suspend_orphaned_sessions()) == 1
    record = rules.engine.data.sessions[phone.sid]
    assert (record.holder, record.suspended_at) == (None, 5_000)
    assert presence(rules) == []
    assert call(rules.store.suspend_orphaned_sessions()) == 0
    assert rules.engine.data.sessions[laptop(rules).sid].holder is not None


def test_a_user_whose_node_is_gone_is_offline(rules: Rules, phone: Session) -> None:
    call(rules.store.end_session(laptop(rules), "c-alice"))
    assert call(rules.store.suspend_orphaned_sessions()) == 1
    assert presence(rules) == [b'{"room":"tea","username":"alice","online":false}']


def test_a_session_to_which_no_client_can_return_expires_with_its_node(rules: Rules, phone: Session) -> None:
    rules.engine.data.sessions[phone.sid] = rules.engine.data.sessions[phone.sid]._replace(resumable=False)
    call(rules.store.end_session(laptop(rules), "c-alice"))
    call(rules.store.suspend_orphaned_sessions())
    assert call(rules.store.end_expired_sessions()) == 1
    assert "alice" not in {session.username for session in rules.engine.data.sessions.values()}


def test_an_abandoned_log_in_leaves_no_session_even_if_that_was_suspended(rules: Rules) -> None:
    """Its node was taken for lost meanwhile. Nobody has its pid, so its name must not be reserved."""
    claim = Claim("alice", "c-alice")
    session = call(rules.store.attach_session(claim))
    call(rules.store.suspend_session(session, "c-alice"))
    call(rules.store.abandon_session(claim))
    assert rules.engine.data.sessions == {}


def test_an_abandoned_return_leaves_a_session_that_another_connection_has_resumed(rules: Rules) -> None:
    session = rules.login("alice")
    claim = Claim("alice", "c-back", ResumePoint(session.pid, "1"))
    call(rules.store.attach_session(claim))
    call(rules.store.attach_session(Claim("alice", "c-again", ResumePoint(session.pid, "1"))))
    call(rules.store.abandon_session(claim))
    assert rules.engine.data.is_online("alice")
