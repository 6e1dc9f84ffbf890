// SPDX-License-Identifier: Apache-2.0
// Register numbers: Intel 82093AA, 3.2.
#include "tests/guests/generation.hpp"

#include "tests/guests/cpu.hpp"
#include "tests/guests/descriptors.hpp"
#include "tests/guests/lapic.hpp"

extern "C" std::uint64_t generation_interrupts;

namespace wherry::guest::generation {

namespace {

constexpr std::uint64_t id_at = 0xdf040;
constexpr std::uint32_t pin = 9;
constexpr std::uint64_t io_apic = 0xfec00000;
constexpr std::uint64_t window = 0x10;
constexpr std::uint32_t first_entry = 0x10;

bool is_watched = false;

void write(std::uint32_t number, std::uint32_t value) noexcept {
    *reinterpret_cast<volatile std::uint32_t*>(io_apic) = number;
    *reinterpret_cast<volatile std::uint32_t*>(io_apic + window) = value;
}

} // namespace

void watch() noexcept {
    write(first_entry + 2 * pin + 1, 0); // to the LAPIC with id 0
    write(first_entry + 2 * pin, generation_vector);
    is_watched = true;
}

std::uint64_t half(unsigned number) noexcept {
    return reinterpret_cast<const volatile std::uint64_t*>(id_at)[number];
}

std::uint64_t events() noexcept {
    if (is_watched) {
        lapic::wait(1); // halted: a CPU that only spins is not given all that is pending everywhere
    }
    return __atomic_load_n(&generation_interrupts, __ATOMIC_RELAXED);
}

} // namespace wherry::guest::generation
