#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Peers that must be refused: one sentence on both sides, and the VM goes on at the source."""

import ctypes
import json
import secrets
import shutil
import socket
import ssl
import struct
import threading
import time

from instances import HostCase, main, wait_until


class Relay:
    """Stands between source and destination and spoils what goes over all their connections:
    `spoil(sent, block)` gets the bytes from the source and how many there were before on all of
    them, and returns what goes on, or None to cut all connections."""

    def __init__(self, port, spoil):
        self.target = port
        self.spoil = spoil
        self.lock = threading.Lock()
        self.sent = 0
        self.ends = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.ends += [near, far]
            threading.Thread(target=self.pump_back, args=(far, near), daemon=True).start()
            threading.Thread(target=self.pump, args=(near, far), daemon=True).start()

    def pump(self, near, far):
        try:
            while block := near.recv(65536):
                with self.lock:
                    out = self.spoil(self.sent, block)
                    self.sent += len(block)
                if out is None:
                    self.cut()
                    return
                far.sendall(out)
        except OSError:
            pass
        for end in (near, far):
            end.close()

    def cut(self):
        """Breaks every connection, as a lost network does."""
        self.listener.close()
        for end in self.ends:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    @staticmethod
    def pump_back(far, near):
        try:
            while block := far.recv(65536):
                near.sendall(block)
        except OSError:
            pass


def digest(data):
    """XXH3-64, as frames carry it."""
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    return library.XXH3_64bits(ctypes.c_char_p(data), ctypes.c_size_t(len(data)))


def varint(number):
    out = bytearray()
    while number > 0x7f:
        out.append(number & 0x7f | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(*fields):
    """Protobuf: each field is (number, int or bytes)."""
    out = b""
    for number, value in fields:
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            out += varint(number << 3) + varint(value)
    return out


def greeting(migration_id, role, index=0, epoch=0, ticket=b""):
    """Preamble and hello of a source, as formats/WIRE.md has them."""
    fields = [(1, migration_id.encode()), (2, role), (3, index), (4, epoch), (5, 1), (6, 10000)]
    if ticket:
        fields.append((7, ticket))
    payload = message((1, message(*fields)))
    head = b"WHFR" + struct.pack("<BBHQIIQ", 1, 1, 0, 0, len(payload), 0, digest(payload))
    return (b"WHERRYMG" + struct.pack("<II", 2, 2) + head + struct.pack("<Q", digest(head))
            + payload)


class BadPeers(HostCase):
    def setUp(self):
        super().setUp()
        self.pki()

    def start(self, **receive):
        self.a = self.run_vm("a")
        self.a.wait_for_reports(2)
        self.b = self.receive_vm("b", **receive)

    def refused(self, *, said_here, said_there, tls="pki", to=None, code=1):
        """The migration fails with the words on each side, and the guest goes on at the source."""
        security = ["--tls", str(self.directory / tls)] if tls else ["--insecure"]
        done = self.wherry(
            "migrate", "a", "--to", to or f"127.0.0.1:{self.port_of('b')}", *security, code=code)
        sentence = done.stderr.strip().splitlines()[-1]
        for word in said_here:
            self.assertIn(word, sentence)
        if said_there:
            wait_until("the other side to say why", lambda: all(
                word in self.b.said() for word in said_there), 20)
        self.assertEqual(self.names().get("a"), "running")
        self.assert_goes_on(self.a)

    def lands_afterwards(self):
        """Nothing of the refused attempt stands in the way of a good one."""
        self.migrate("a", "b")
        self.assert_goes_on(self.b)

    def test_wrong_ca(self):
        self.pki("other")
        self.start()
        self.refused(tls="other", said_here=["ca-cert.pem"], said_there=["CA"])
        self.lands_afterwards()

    def test_expired_server_certificate(self):
        # An instance refuses to start with an expired certificate, so it expires underneath it.
        self.odd_pki("expired")
        done = self.wherry(
            "receive", "--name", "x", "--listen", "127.0.0.1:0", "--tls", "expired", code=1)
        self.assertIn("expired", done.stderr)

    def test_expired_client_certificate(self):
        self.odd_pki("expired")
        self.start()
        self.refused(tls="expired", said_here=["expired"], said_there=[])
        self.lands_afterwards()

    def test_wrong_name(self):
        self.odd_pki("elsewhere")
        self.start(tls="elsewhere")
        self.refused(said_here=["127.0.0.1", "elsewhere.example"], said_there=["a peer"])

    def test_wrong_extended_key_usage(self):
        self.odd_pki("swapped")
        self.start()
        self.refused(tls="swapped", said_here=["certificate"], said_there=["certificate"])
        self.lands_afterwards()

    def test_no_client_certificate(self):
        self.start()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.directory / "pki" / "ca-cert.pem")
        with socket.create_connection(("127.0.0.1", self.port_of("b"))) as plain:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as stream:
                with self.assertRaises(ssl.SSLError):
                    stream.recv(1)
        wait_until("the refusal", lambda: "certificate" in self.b.said(), 20)
        self.lands_afterwards()

    def test_plain_tcp_to_tls(self):
        self.start()
        self.refused(tls=None, said_here=["TLS"], said_there=["TLS"])
        self.lands_afterwards()

    def test_tls_to_plain_tcp(self):
        self.start(tls=None)
        self.refused(said_here=["TLS"], said_there=["TLS"])

    def test_garbage(self):
        self.start()
        with socket.create_connection(("127.0.0.1", self.port_of("b"))) as plain:
            plain.sendall(bytes(range(256)) * 40)
        wait_until("the refusal", lambda: "TLS" in self.b.said(), 20)
        self.lands_afterwards()

    def test_a_silent_peer_does_not_block_others(self):
        self.start()
        with socket.create_connection(("127.0.0.1", self.port_of("b"))):
            self.lands_afterwards()

    def as_client(self):
        """A connection to the destination with certificates that are good."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        pki = self.directory / "pki"
        context.load_verify_locations(pki / "ca-cert.pem")
        context.load_cert_chain(pki / "client-cert.pem", pki / "client-key.pem")
        context.set_alpn_protocols(["wherry/1"])
        plain = socket.create_connection(("127.0.0.1", self.port_of("b")), timeout=30)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def test_S06_peers_that_never_say_what_they_want_do_not_block_others(self):
        self.start()
        silent = [self.as_client() for _ in range(5)]
        half = self.as_client()
        half.sendall(greeting("m", 1)[:30])
        self.lands_afterwards()
        for peer in [*silent, half]:
            peer.close()

    def test_S03_S04_channels_without_the_ticket_of_the_migration_are_refused(self):
        self.start()
        started = self.wherry(
            "migrate", "a", "--to", f"127.0.0.1:{self.port_of('b')}", "--tls", "pki",
            "--bandwidth", "8M", "--streams", "2", "--detach", "--json")
        identity = json.loads(started.stdout)["id"]
        wait_until("pages to flow", lambda: self.status("a").get("job", {}).get(
            "progress", {}).get("wire_bytes", 0) > 1 << 20)
        for hello in (
                greeting(identity, 2, index=2),
                greeting(identity, 3),
                greeting(identity, 2, index=2, ticket=secrets.token_bytes(16)),
                greeting(identity, 1, ticket=secrets.token_bytes(16)),
                greeting("another", 2, ticket=secrets.token_bytes(16))):
            with self.as_client() as stranger:
                stranger.sendall(hello)
                heard = b""
                try:
                    while block := stranger.recv(4096):
                        heard += block
                        if b"ticket" in heard:
                            break
                except OSError:
                    pass
                self.assertIn(b"did not show the ticket of a migration", heard)
        with self.as_client() as second:
            second.sendall(greeting("another", 1))
            heard = b""
            while b"arriving here already" not in heard:
                block = second.recv(4096)
                self.assertTrue(block, heard)
                heard += block
        wait_until("the refusals", lambda: self.b.said().count("did not show the ticket") == 5)
        # The migration never noticed.
        self.assertEqual(self.status("a")["job"]["state"], "running")
        self.wherry("set", "a", "bandwidth=none")
        self.assert_goes_on(self.b)
        self.assertEqual(self.names(), {"b": "running"})

    def test_truncated_stream(self):
        self.start()
        limit = 4 << 20
        relay = Relay(
            self.port_of("b"), lambda sent, block: block if sent < limit else None)
        self.refused(
            to=f"127.0.0.1:{relay.port}", said_here=["connection"], said_there=["connection"])
        wait_until("the destination to go", lambda: self.b.process.poll() is not None)
        self.assertEqual(self.b.process.returncode, 1)
        self.assertEqual(self.names(), {"a": "running"})

    def test_changed_bytes(self):
        self.start()

        def flip(sent, block):
            at = (1 << 20) - sent
            if 0 <= at < len(block):
                block = block[:at] + bytes([block[at] ^ 0xff]) + block[at + 1:]
            return block
        relay = Relay(self.port_of("b"), flip)
        self.refused(to=f"127.0.0.1:{relay.port}", said_here=[], said_there=["changed on the way"])
        self.assertEqual(self.names(), {"a": "running"})

    def test_a_destination_that_stops_answering(self):
        self.start()
        import os
        import signal

        def stop_at_half(sent, block):
            if sent > (8 << 20):
                os.kill(self.b.process.pid, signal.SIGSTOP)
            return block
        relay = Relay(self.port_of("b"), stop_at_half)
        self.refused(to=f"127.0.0.1:{relay.port}", said_here=["destination"], said_there=[])
        os.kill(self.b.process.pid, signal.SIGCONT)

    def test_keys_that_others_can_read(self):
        self.start()
        loose = self.directory / "loose"
        shutil.copytree(self.directory / "pki", loose)
        (loose / "client-key.pem").chmod(0o640)
        self.refused(tls="loose", said_here=["client-key.pem", "chmod 600"], said_there=[])

    def test_nobody_listens(self):
        self.a = self.run_vm("a")
        self.a.wait_for_reports()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        begun = time.monotonic()
        self.refused(to=f"127.0.0.1:{port}", said_here=[str(port)], said_there=[])
        self.assertGreater(time.monotonic() - begun, 1, "a destination may come up a little later")


if __name__ == "__main__":
    main()
