// SPDX-License-Identifier: Apache-2.0
#include "tests/guests/serial.hpp"

#include "tests/guests/cpu.hpp"

#include <array>
#include <cstdint>

namespace wherry::guest::serial {

namespace {

constexpr std::uint16_t base = 0x3f8;
constexpr std::uint16_t line_status = base + 5;
constexpr std::uint8_t transmitter_empty = 0x20;
constexpr std::size_t fifo_bytes = 16;
constexpr std::size_t capacity = 16384;

std::array<char, capacity> ring;
std::size_t head; ///< total bytes queued
std::size_t tail; ///< total bytes written out
char busy;

bool try_lock() noexcept {
    return !__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE);
}

void unlock() noexcept {
    __atomic_clear(&busy, __ATOMIC_RELEASE);
}

} // namespace

void initialise() noexcept {
    write_port(base + 1, 0);    // no interrupts
    write_port(base + 3, 0x80); // divisor latch
    write_port(base, 1);        // 115200 baud
    write_port(base + 1, 0);
    write_port(base + 3, 3);    // 8N1
    write_port(base + 2, 0x07); // FIFOs on and empty
    write_port(base + 4, 3);    // DTR, RTS
}

bool try_queue(std::string_view line) noexcept {
    if (!try_lock()) {
        return false;
    }
    const bool fits = capacity - (head - tail) >= line.size();
    if (fits) {
        for (const char c : line) {
            ring[head++ % capacity] = c;
        }
    }
    unlock();
    return fits;
}

void queue(std::string_view line) noexcept {
    while (!try_queue(line)) {
        pump(fifo_bytes);
    }
}

bool pump(std::size_t limit) noexcept {
    if (__atomic_load_n(&head, __ATOMIC_RELAXED) == __atomic_load_n(&tail, __ATOMIC_RELAXED)) {
        return false;
    }
    if (!try_lock()) {
        return false; // the CPU at the ring takes care of what is left
    }
    if (head != tail && (read_port(line_status) & transmitter_empty) != 0) {
        // An empty transmitter takes a FIFO full without another look.
        for (std::size_t sent = 0; sent < limit && sent < fifo_bytes && head != tail; ++sent) {
            write_port(base, static_cast<std::uint8_t>(ring[tail++ % capacity]));
        }
    }
    const bool left = head != tail;
    unlock();
    return left;
}

void drain() noexcept {
    while (__atomic_load_n(&head, __ATOMIC_RELAXED) != __atomic_load_n(&tail, __ATOMIC_RELAXED)) {
        pump(fifo_bytes);
    }
}

void write_now(std::string_view line) noexcept {
    for (const char c : line) {
        while ((read_port(line_status) & transmitter_empty) == 0) {
            relax();
        }
        write_port(base, static_cast<std::uint8_t>(c));
    }
}

} // namespace wherry::guest::serial
