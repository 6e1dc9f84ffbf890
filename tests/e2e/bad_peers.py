#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Peers that must be refused: one sentence on both sides, and the VM goes on at the source."""

import shutil
import socket
import struct
import threading
import time

from instances import HostCase, main, wait_until


class Relay:
    """Stands between source and destination and spoils the stream: `spoil(sent, block)` gets the
    bytes from the source and returns what goes on, or None to cut the connection."""

    def __init__(self, port, spoil):
        self.target = port
        self.spoil = spoil
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        near, _ = self.listener.accept()
        self.listener.close()
        far = socket.create_connection(("127.0.0.1", self.target))
        back = threading.Thread(target=self.pump_back, args=(far, near), daemon=True)
        back.start()
        sent = 0
        try:
            while block := near.recv(65536):
                out = self.spoil(sent, block)
                sent += len(block)
                if out is None:
                    break
                far.sendall(out)
        except OSError:
            pass
        for end in (near, far):
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
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
        self.bad_pki("expired")
        done = self.wherry(
            "receive", "--name", "x", "--listen", "127.0.0.1:0", "--tls", "expired", code=1)
        self.assertIn("expired", done.stderr)

    def test_expired_client_certificate(self):
        self.bad_pki("expired")
        self.start()
        self.refused(tls="expired", said_here=["expired"], said_there=[])
        self.lands_afterwards()

    def test_wrong_name(self):
        self.bad_pki("elsewhere")
        self.start(tls="elsewhere")
        self.refused(said_here=["127.0.0.1", "elsewhere.example"], said_there=["a peer"])

    def test_wrong_extended_key_usage(self):
        self.bad_pki("swapped")
        self.start()
        self.refused(tls="swapped", said_here=["certificate"], said_there=["certificate"])
        self.lands_afterwards()

    def test_no_client_certificate(self):
        self.start()
        import ssl
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
