# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that a test cuts, stalls, slows down and mends: the network between two hosts.

It knows nothing of what passes through: TLS goes from end to end.
"""

import socket
import threading
import time

CHUNK = 1 << 18


class CuttingProxy:
    """Forwards 127.0.0.1:port to a port of this machine. Any thread may change what it does."""

    def __init__(self, to_port):
        self.to_port = to_port
        self.lock = threading.Lock()
        self.is_cut = False
        self.rate = None  # bytes a second to the destination, over all connections; None: no limit
        self.free_from = 0.0  # when the next bytes may go out
        self.stalled = set()  # directions: "there" (to the destination), "back"
        self.connections = []  # pairs of sockets
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.mended = threading.Condition(self.lock)
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Every connection breaks, and new ones break at once."""
        with self.lock:
            self.is_cut = True
            pairs, self.connections = self.connections, []
        for pair in pairs:
            self._reset(pair)

    def stall(self, *directions):
        """Bytes are taken and not forwarded in these directions ("there", "back"), for ever."""
        with self.lock:
            self.stalled = set(directions)

    def slow_down(self, rate):
        """To so many bytes a second on the way there, from now on; None: as fast as it goes."""
        with self.lock:
            self.rate = rate

    def _wait_for_turn(self, length):
        with self.lock:
            if self.rate is None:
                return
            now = time.monotonic()
            self.free_from = max(self.free_from, now) + length / self.rate
            pause = self.free_from - now
        time.sleep(pause)

    def mend(self):
        with self.lock:
            self.is_cut = False
            self.stalled = set()
            self.mended.notify_all()

    def close(self):
        self.listener.close()
        self.cut()

    @staticmethod
    def _reset(pair):
        for end in pair:
            try:
                # An RST, as when a host is gone.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.is_cut:
                self._reset((near,))
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.to_port), timeout=5)
            except OSError:
                self._reset((near,))
                continue
            far.settimeout(None)
            pair = (near, far)
            for end in pair:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections.append(pair)
            for source, sink, direction in ((near, far, "there"), (far, near, "back")):
                threading.Thread(
                    target=self._forward, args=(pair, source, sink, direction),
                    daemon=True).start()

    def _forward(self, pair, source, sink, direction):
        try:
            while True:
                data = source.recv(CHUNK)
                with self.lock:
                    while direction in self.stalled and not self.is_cut:
                        self.mended.wait(0.1)
                    if pair not in self.connections:
                        return
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if direction == "there":
                    self._wait_for_turn(len(data))
                sink.sendall(data)
        except OSError:
            with self.lock:
                if pair in self.connections:
                    self.connections.remove(pair)
            self._reset(pair)
