// SPDX-License-Identifier: Apache-2.0
#include "x86_fuzz_machine.hpp"

#include "formats/error.hpp"
#include "vmm/little_endian.hpp"

#include <algorithm>
#include <array>
#include <random>

namespace wherry::fuzz {

using formats::Bytes;
using formats::Gpa;
using formats::invariant;
using vmm::GuestMemory;
namespace x86 = vmm::x86;

namespace {

// Guest physical addresses of modes with paging: tables above what linear addresses reach.
constexpr std::uint64_t tables_at = 0x30'0000;
constexpr std::uint64_t mmio_gpa = 0xd000'0000;
// Present, writable, user, accessed, dirty: walks change nothing.
constexpr std::uint64_t all_allowed = 0x67;

GuestMemory make_memory(Mode mode) {
    auto memory = GuestMemory::create(Bytes{mode == Mode::real ? ram_size : 2 * ram_size});
    invariant(memory.has_value(), "guest memory can be had");
    return std::move(*memory);
}

std::uint64_t pointer_near_edge(std::mt19937_64& random, std::uint64_t from, std::uint64_t pages) {
    const std::uint64_t edge = from + random() % pages * 4096;
    return random() % 2 == 0 ? edge + random() % 4096 : edge - 8 + random() % 16;
}

std::uint64_t any_register(std::mt19937_64& random) {
    switch (random() % 8) {
    case 0:
        return random();
    case 1:
        return random() % 256;
    case 2:
        return 0 - random() % 256;
    case 3:
    case 4:
        return pointer_near_edge(random, 0x8000, 16);
    default:
        return pointer_near_edge(random, mmio_at, mmio_size / 4096);
    }
}

vmm::Segment real_segment(std::uint16_t selector) {
    return {
        .base = std::uint64_t{selector} << 4U,
        .limit = 0xffff'ffff, // the oracle knows no limits
        .selector = selector,
        .attributes = 0x93};
}

} // namespace

class Machine::Observer final : public vmm::WriteObserver {
public:
    void wrote(formats::PageRange range) noexcept override {
        for (auto page = range.first(); page < range.end(); page += formats::PageCount{1}) {
            pages.insert(page.value());
        }
    }
    Pages pages;
};

class Machine::Handler final : public vmm::ExitHandler {
public:
    explicit Handler(std::uint64_t base) : base_{base} { restore(); }
    void port_read(std::uint16_t, std::span<std::byte>) override { is_beyond = true; }
    void port_write(std::uint16_t, std::span<const std::byte>) override { is_beyond = true; }
    void memory_read(Gpa at, std::span<std::byte> data) override {
        if (const auto offset = place(at, data.size())) {
            std::ranges::copy(
                std::as_bytes(std::span{bytes}.subspan(*offset, data.size())), data.begin());
        }
    }
    void memory_write(Gpa at, std::span<const std::byte> data) override {
        if (const auto offset = place(at, data.size())) {
            std::ranges::copy(
                data, std::as_writable_bytes(std::span{bytes}).subspan(*offset).begin());
        }
    }
    void end_of_interrupt(std::uint8_t) override { is_beyond = true; }
    void restore() {
        is_beyond = false;
        for (std::uint64_t i = 0; i < mmio_size; ++i) {
            bytes[i] = pristine(mmio_at + i);
        }
    }

    std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(mmio_size);
    bool is_beyond = false;

private:
    std::optional<std::size_t> place(Gpa at, std::size_t size) {
        const std::uint64_t offset = at.value() - base_;
        if (offset > mmio_size - size) {
            is_beyond = true;
            return std::nullopt;
        }
        return offset;
    }
    std::uint64_t base_;
};

Machine::Machine(Mode mode)
    : mode_{mode},
      memory_{make_memory(mode)},
      observer_{std::make_unique<Observer>()},
      handler_{std::make_unique<Handler>(mode == Mode::real ? mmio_at : mmio_gpa)} {
    if (mode == Mode::protected_32) {
        build_tables_32();
    } else if (mode == Mode::long_64) {
        build_tables_64();
    }
    memory_.observe_writes(observer_.get());
    for (std::uint64_t page = 0; page < ram_size / 4096; ++page) {
        observer_->pages.insert(page);
    }
    restore();
}

Machine::~Machine() {
    memory_.observe_writes(nullptr);
}

void Machine::put(std::uint64_t at, std::uint64_t value, std::size_t size) {
    std::vector<std::byte> bytes;
    vmm::append_le(bytes, value);
    invariant(memory_.write(Gpa{at}, std::span{bytes}.first(size)).has_value(), "tables are RAM");
}

/// One directory, one table: 2 MiB of RAM, then MMIO.
void Machine::build_tables_32() {
    const std::uint64_t table = tables_at + 0x1000;
    put(tables_at, table | all_allowed, 4);
    for (std::uint64_t page = 0; page < ram_size / 4096; ++page) {
        put(table + page * 4, page * 4096 | all_allowed, 4);
    }
    for (std::uint64_t page = 0; page < mmio_size / 4096; ++page) {
        put(table + (ram_size / 4096 + page) * 4, (mmio_gpa + page * 4096) | all_allowed, 4);
    }
}

/// RAM is one large page.
void Machine::build_tables_64() {
    put(tables_at, (tables_at + 0x1000) | all_allowed, 8);
    put(tables_at + 0x1000, (tables_at + 0x2000) | all_allowed, 8);
    put(tables_at + 0x2000, 0x80 | all_allowed, 8);
    put(tables_at + 0x2008, (tables_at + 0x3000) | all_allowed, 8);
    for (std::uint64_t page = 0; page < mmio_size / 4096; ++page) {
        put(tables_at + 0x3000 + page * 8, (mmio_gpa + page * 4096) | all_allowed, 8);
    }
}

x86::CpuState Machine::state_from(std::uint64_t seed) const {
    std::mt19937_64 random{seed};
    x86::CpuState state;
    auto& r = state.registers;
    for (auto* const full : {&r.rax, &r.rbx, &r.rcx, &r.rdx, &r.rsi, &r.rdi, &r.rsp, &r.rbp}) {
        *full = any_register(random) & (mode_ == Mode::long_64 ? ~0ULL : 0xffff'ffff);
    }
    r.rcx = random() % 2 == 0 ? random() % 64 : r.rcx; // so that a REP ends
    if (mode_ == Mode::long_64) {
        for (auto* const full : {&r.r8, &r.r9, &r.r10, &r.r11, &r.r12, &r.r13, &r.r14, &r.r15}) {
            *full = any_register(random);
        }
    }
    r.rip = code_at;
    r.rflags = 2 | (random() & (x86::rflags::arithmetic | x86::rflags::df));
    auto& system = state.system;
    for (auto* const segment : {&system.ds, &system.es, &system.ss, &system.fs, &system.gs}) {
        *segment = mode_ == Mode::real
                       ? real_segment(static_cast<std::uint16_t>(random() % 0x4000))
                       : vmm::Segment{
                             .base = 0, .limit = 0xffff'ffff, .selector = 0, .attributes = 0xc093};
    }
    system.cs = mode_ == Mode::real ? real_segment(0)
                                    : vmm::Segment{
                                          .base = 0,
                                          .limit = 0xffff'ffff,
                                          .selector = 0,
                                          .attributes = mode_ == Mode::long_64 ? 0xa09bU : 0xc09bU};
    if (mode_ != Mode::real) {
        system.cr0 = x86::cr0::pe | x86::cr0::pg | x86::cr0::wp;
        system.cr3 = tables_at;
    }
    if (mode_ == Mode::long_64) {
        system.cr4 = x86::cr4::pae;
        system.efer = x86::efer::lma;
        system.fs.base = any_register(random) % ram_size;
        system.gs.base = any_register(random) % ram_size;
    }
    return state;
}

std::optional<x86::Outcome>
Machine::emulate(const x86::CpuState& state, std::span<const std::uint8_t, 15> code) {
    const auto bytes = std::as_bytes(code);
    invariant(memory_.write(Gpa{code_at}, bytes).has_value(), "code lies in RAM");
    observer_->pages.clear();
    auto outcome = x86::emulate(state, memory_, *handler_, bytes);
    if (observer_->pages.contains(code_at / 4096)) {
        handler_->is_beyond = true;
    }
    observer_->pages.insert(code_at / 4096);
    return outcome ? std::optional{*outcome} : std::nullopt;
}

bool Machine::is_beyond_comparison() const {
    return handler_->is_beyond;
}

std::span<const std::uint8_t> Machine::ram() const {
    return {reinterpret_cast<const std::uint8_t*>(memory_.regions().front().host), ram_size};
}
std::span<const std::uint8_t> Machine::mmio() const {
    return handler_->bytes;
}
const Pages& Machine::written_pages() const noexcept {
    return observer_->pages;
}

void Machine::restore() {
    const Pages pages = observer_->pages;
    for (const std::uint64_t page : pages) {
        std::array<std::byte, 4096> bytes{};
        for (std::uint64_t i = 0; i < bytes.size(); ++i) {
            bytes[i] = static_cast<std::byte>(pristine(page * 4096 + i));
        }
        if (page < ram_size / 4096) {
            invariant(memory_.write(Gpa{page * 4096}, bytes).has_value(), "RAM is RAM");
        }
    }
    observer_->pages.clear();
    handler_->restore();
}

} // namespace wherry::fuzz
