// SPDX-License-Identifier: Apache-2.0
#include "x86_oracle.hpp"

#include "formats/error.hpp"

#include <algorithm>
#include <utility>

#include <sys/mman.h>

namespace wherry::fuzz {

using formats::invariant;

namespace {

using Member = std::uint64_t vmm::Registers::*;
constexpr std::array<std::pair<int, Member>, 16> general = {{
    {UC_X86_REG_RAX, &vmm::Registers::rax},
    {UC_X86_REG_RCX, &vmm::Registers::rcx},
    {UC_X86_REG_RDX, &vmm::Registers::rdx},
    {UC_X86_REG_RBX, &vmm::Registers::rbx},
    {UC_X86_REG_RSP, &vmm::Registers::rsp},
    {UC_X86_REG_RBP, &vmm::Registers::rbp},
    {UC_X86_REG_RSI, &vmm::Registers::rsi},
    {UC_X86_REG_RDI, &vmm::Registers::rdi},
    {UC_X86_REG_R8, &vmm::Registers::r8},
    {UC_X86_REG_R9, &vmm::Registers::r9},
    {UC_X86_REG_R10, &vmm::Registers::r10},
    {UC_X86_REG_R11, &vmm::Registers::r11},
    {UC_X86_REG_R12, &vmm::Registers::r12},
    {UC_X86_REG_R13, &vmm::Registers::r13},
    {UC_X86_REG_R14, &vmm::Registers::r14},
    {UC_X86_REG_R15, &vmm::Registers::r15},
}};
/// An engine opened for less than 64 bits knows these names alone.
constexpr std::array<int, 8> general_32 = {
    UC_X86_REG_EAX,
    UC_X86_REG_ECX,
    UC_X86_REG_EDX,
    UC_X86_REG_EBX,
    UC_X86_REG_ESP,
    UC_X86_REG_EBP,
    UC_X86_REG_ESI,
    UC_X86_REG_EDI};

std::size_t general_count(Mode mode) {
    return mode == Mode::long_64 ? general.size() : general_32.size();
}
int general_name(Mode mode, std::size_t index) {
    return mode == Mode::long_64 ? general[index].first : general_32[index];
}

void expect(uc_err outcome) {
    invariant(outcome == UC_ERR_OK, uc_strerror(outcome));
}

uc_mode engine_mode(Mode mode) {
    return mode == Mode::real ? UC_MODE_16 : mode == Mode::protected_32 ? UC_MODE_32 : UC_MODE_64;
}

uc_engine* open(Mode mode) {
    uc_engine* engine = nullptr;
    expect(uc_open(UC_ARCH_X86, engine_mode(mode), &engine));
    return engine;
}

std::uint8_t* map_ram() {
    void* const at =
        ::mmap(nullptr, ram_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    invariant(at != MAP_FAILED, "two megabytes can be had");
    return static_cast<std::uint8_t*>(at);
}

std::uint64_t read_mmio(uc_engine*, std::uint64_t offset, unsigned size, void* bytes) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) {
        value |= std::uint64_t{static_cast<std::uint8_t*>(bytes)[offset + i]} << (8 * i);
    }
    return value;
}

void write_mmio(uc_engine*, std::uint64_t offset, unsigned size, std::uint64_t value, void* bytes) {
    for (unsigned i = 0; i < size; ++i) {
        static_cast<std::uint8_t*>(bytes)[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
    }
}

void note_write(uc_engine*, uc_mem_type, std::uint64_t at, int size, std::int64_t, void* pages) {
    auto& written = *static_cast<Pages*>(pages);
    written.insert(at / 4096);
    written.insert((at + static_cast<std::uint64_t>(size) - 1) / 4096);
}

void note_interrupt(uc_engine* engine, std::uint32_t, void* flag) {
    *static_cast<bool*>(flag) = true;
    expect(uc_emu_stop(engine));
}

} // namespace

std::uint8_t pristine(std::uint64_t at) {
    return static_cast<std::uint8_t>((at * 0x9e37'79b9'7f4a'7c15U) >> 56U);
}

void Oracle::Unmap::operator()(std::uint8_t* at) const noexcept {
    ::munmap(at, size);
}

Oracle::Oracle(Mode mode)
    : mode_{mode},
      ram_storage_{map_ram(), Unmap{ram_size}},
      ram_{ram_storage_.get(), ram_size},
      mmio_(mmio_size),
      engine_{open(mode)} {
    expect(uc_mem_map_ptr(engine_.get(), 0, ram_size, UC_PROT_ALL, ram_.data()));
    expect(uc_mmio_map(
        engine_.get(), mmio_at, mmio_size, read_mmio, mmio_.data(), write_mmio, mmio_.data()));
    hook();
    for (std::uint64_t page = 0; page < ram_size / 4096; ++page) {
        written_.insert(page);
    }
    restore();
}

void Oracle::hook() {
    uc_hook handle = 0;
    // Unicorn takes callbacks of all kinds as void*.
    expect(uc_hook_add(
        engine_.get(),
        &handle,
        UC_HOOK_MEM_WRITE,
        reinterpret_cast<void*>(note_write),
        &written_,
        1,
        0));
    expect(uc_hook_add(
        engine_.get(),
        &handle,
        UC_HOOK_INTR,
        reinterpret_cast<void*>(note_interrupt),
        &was_interrupted_,
        1,
        0));
}

void Oracle::load(const OracleState& state) const {
    for (std::size_t i = 0; i < general_count(mode_); ++i) {
        expect(uc_reg_write(
            engine_.get(), general_name(mode_, i), &(state.registers.*general[i].second)));
    }
    expect(uc_reg_write(engine_.get(), UC_X86_REG_EFLAGS, &state.registers.rflags));
    if (mode_ == Mode::real) {
        const auto& system = state.system;
        const std::array<std::pair<int, const vmm::Segment*>, 5> segments = {{
            {UC_X86_REG_DS, &system.ds},
            {UC_X86_REG_ES, &system.es},
            {UC_X86_REG_SS, &system.ss},
            {UC_X86_REG_FS, &system.fs},
            {UC_X86_REG_GS, &system.gs},
        }};
        for (const auto& [name, segment] : segments) {
            expect(uc_reg_write(engine_.get(), name, &segment->selector));
        }
    } else if (mode_ == Mode::long_64) {
        expect(uc_reg_write(engine_.get(), UC_X86_REG_FS_BASE, &state.system.fs.base));
        expect(uc_reg_write(engine_.get(), UC_X86_REG_GS_BASE, &state.system.gs.base));
    }
}

void Oracle::store(OracleState& state) const {
    for (std::size_t i = 0; i < general_count(mode_); ++i) {
        std::uint64_t value = 0;
        expect(uc_reg_read(engine_.get(), general_name(mode_, i), &value));
        state.registers.*general[i].second = value;
    }
    std::uint64_t flags = 0;
    expect(uc_reg_read(engine_.get(), UC_X86_REG_EFLAGS, &flags));
    state.registers.rflags = flags;
    std::uint64_t rip = 0;
    const int name = mode_ == Mode::long_64        ? UC_X86_REG_RIP
                     : mode_ == Mode::protected_32 ? UC_X86_REG_EIP
                                                   : UC_X86_REG_IP;
    expect(uc_reg_read(engine_.get(), name, &rip));
    state.registers.rip = rip;
}

bool Oracle::execute(std::span<const std::uint8_t> code, std::size_t length, OracleState& state) {
    std::ranges::copy(code, ram_.subspan(code_at).begin());
    written_.insert(code_at / 4096);
    expect(uc_ctl_remove_cache(engine_.get(), code_at, code_at + 32));
    load(state);
    was_interrupted_ = false;
    const uc_err outcome = uc_emu_start(engine_.get(), code_at, code_at + length, 0, 0);
    store(state);
    return outcome == UC_ERR_OK && !was_interrupted_;
}

void Oracle::restore() {
    for (const std::uint64_t page : written_) {
        for (std::uint64_t at = page * 4096; at < std::min(page * 4096 + 4096, mmio_at); ++at) {
            ram_[at] = pristine(at);
        }
    }
    written_.clear();
    for (std::uint64_t i = 0; i < mmio_size; ++i) {
        mmio_[i] = pristine(mmio_at + i);
    }
}

} // namespace wherry::fuzz
