// SPDX-License-Identifier: Apache-2.0
// Input: mode (1 byte), seed of the register state (8 bytes), one instruction. What vmm/x86
// executes, Unicorn must execute with the same registers, flags, RAM and MMIO after it; what ends
// in an exception in one must not go through in the other. What vmm/x86 refuses is not judged.
#include "formats/error.hpp"
#include "fuzz_target.hpp"
#include "vmm/x86/emulator.hpp"
#include "x86_fuzz_machine.hpp"
#include "x86_oracle.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include <Zydis/Decoder.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace {

using namespace wherry;
using formats::invariant;
using fuzz::Mode;

struct Pair {
    explicit Pair(Mode mode) : oracle{mode}, machine{mode} {}
    std::optional<fuzz::Oracle> oracle;
    fuzz::Machine machine;
};

Pair& pair_of(Mode mode) {
    static std::array<Pair, 3> pairs{
        Pair{Mode::real}, Pair{Mode::protected_32}, Pair{Mode::long_64}};
    return pairs[static_cast<std::size_t>(mode)];
}

struct Decoded {
    std::size_t length = 0;
    std::uint64_t undefined_flags = 0;
};

/// Unicorn's processor has no MOVBE and MOVDIRI and no second encoding of TEST (F6 and F7 /1), and
/// takes a REX prefix that other prefixes follow, which processors ignore. Of F2 and F3 before one
/// instruction, processors obey the last, and Unicorn F2.
bool is_known_to_oracle(const ZydisDecodedInstruction& instruction) {
    bool has_f2 = false;
    bool has_f3 = false;
    for (std::size_t i = 0; i < instruction.raw.prefix_count; ++i) {
        const auto& prefix = instruction.raw.prefixes[i];
        const bool is_rex = instruction.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 &&
                            (prefix.value & 0xf0U) == 0x40;
        if (is_rex && i + 1 != instruction.raw.prefix_count) {
            return false;
        }
        has_f2 = has_f2 || prefix.value == 0xf2;
        has_f3 = has_f3 || prefix.value == 0xf3;
    }
    if (has_f2 && has_f3) {
        return false;
    }
    const bool is_test_alias = instruction.mnemonic == ZYDIS_MNEMONIC_TEST &&
                               (instruction.opcode == 0xf6 || instruction.opcode == 0xf7) &&
                               instruction.raw.modrm.reg == 1;
    // REX.R means nothing where ModRM.reg is part of the opcode; Unicorn refuses it at MOV.
    const bool has_idle_rex_r =
        (instruction.opcode == 0xc6 || instruction.opcode == 0xc7) && instruction.raw.rex.R != 0;
    return !has_idle_rex_r && instruction.mnemonic != ZYDIS_MNEMONIC_MOVBE &&
           instruction.mnemonic != ZYDIS_MNEMONIC_MOVDIRI && !is_test_alias;
}

/// Zydis's word on which flags the SDM leaves undefined.
Decoded decode(Mode mode, std::span<const std::uint8_t> code) {
    ZydisDecoder decoder;
    ZydisDecoderInit(
        &decoder,
        mode == Mode::real           ? ZYDIS_MACHINE_MODE_REAL_16
        : mode == Mode::protected_32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                     : ZYDIS_MACHINE_MODE_LONG_64,
        mode == Mode::real           ? ZYDIS_STACK_WIDTH_16
        : mode == Mode::protected_32 ? ZYDIS_STACK_WIDTH_32
                                     : ZYDIS_STACK_WIDTH_64);
    ZydisDecodedInstruction instruction;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
            &decoder, nullptr, code.data(), code.size(), &instruction))) {
        return {};
    }
    if (!is_known_to_oracle(instruction)) {
        return {};
    }
    return {
        .length = instruction.length,
        .undefined_flags = instruction.cpu_flags == nullptr ? 0 : instruction.cpu_flags->undefined};
}

bool agree(const fuzz::OracleState& oracle, const vmm::Registers& ours, const Decoded& decoded) {
    auto a = oracle.registers;
    auto b = ours;
    const std::uint64_t judged =
        (vmm::x86::rflags::arithmetic | vmm::x86::rflags::df) & ~decoded.undefined_flags;
    a.rflags &= judged;
    b.rflags &= judged;
    return a == b;
}

/// What a person needs to repeat it.
void describe(
    Mode mode,
    std::span<const std::uint8_t> code,
    const vmm::Registers& before,
    const vmm::Registers& theirs,
    const vmm::x86::Outcome& ours) {
    const auto& after = ours.registers;
    fmt::print(stderr, "mode {}, code {:02x}\n", static_cast<int>(mode), fmt::join(code, " "));
    using R = vmm::Registers;
    constexpr std::array members = {
        std::pair{"rax", &R::rax},
        std::pair{"rbx", &R::rbx},
        std::pair{"rcx", &R::rcx},
        std::pair{"rdx", &R::rdx},
        std::pair{"rsi", &R::rsi},
        std::pair{"rdi", &R::rdi},
        std::pair{"rsp", &R::rsp},
        std::pair{"rbp", &R::rbp},
        std::pair{"r8", &R::r8},
        std::pair{"r9", &R::r9},
        std::pair{"r10", &R::r10},
        std::pair{"r11", &R::r11},
        std::pair{"r12", &R::r12},
        std::pair{"r13", &R::r13},
        std::pair{"r14", &R::r14},
        std::pair{"r15", &R::r15},
        std::pair{"rip", &R::rip},
        std::pair{"rflags", &R::rflags}};
    for (const auto& [name, member] : members) {
        fmt::print(
            stderr,
            "{:6} before {:16x}  oracle {:16x}  ours {:16x}\n",
            name,
            before.*member,
            theirs.*member,
            after.*member);
    }
    if (ours.exception) {
        fmt::print(
            stderr,
            "ours: exception {} at {:#x}\n",
            ours.exception->vector,
            ours.exception->parameter);
    }
}

bool same_memory(Pair& pair) {
    fuzz::Pages pages = pair.oracle->written_pages();
    pages.insert(pair.machine.written_pages().begin(), pair.machine.written_pages().end());
    const auto same_page = [&](std::uint64_t page) {
        return page * 4096 >= fuzz::mmio_at || std::ranges::equal(
                                                   pair.oracle->ram().subspan(page * 4096, 4096),
                                                   pair.machine.ram().subspan(page * 4096, 4096));
    };
    return std::ranges::all_of(pages, same_page) &&
           std::ranges::equal(pair.oracle->mmio(), pair.machine.mmio());
}

void try_one(Pair& pair, Mode mode, std::uint64_t seed, std::span<const std::uint8_t, 15> code) {
    const vmm::x86::CpuState before = pair.machine.state_from(seed);
    const auto outcome = pair.machine.emulate(before, code);
    const Decoded decoded = decode(mode, code);
    if (!outcome || decoded.length == 0 || pair.machine.is_beyond_comparison()) {
        return;
    }
    const auto& after = outcome->registers;
    const bool faulted = outcome->exception.has_value();
    if (!faulted && after.rip == before.registers.rip) {
        return; // a REP with more to do than one call does
    }
    if (faulted && mode != Mode::long_64 &&
        outcome->exception->vector == vmm::x86::vector::general_protection) {
        return; // a write through CS: Unicorn looks at no segment's type
    }
    fuzz::OracleState state;
    std::string_view difference;
    // An engine that has run many inputs may still hold something of them (translations, say): when
    // it disagrees, a fresh one has the last word.
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (attempt > 0) {
            pair.oracle.emplace(mode);
        }
        state = {.registers = before.registers, .system = before.system};
        const bool went_through = pair.oracle->execute(code, decoded.length, state);
        difference = went_through == faulted         ? "both execute it, or neither"
                     : faulted                       ? ""
                     : !agree(state, after, decoded) ? "registers and flags are the same"
                     : !same_memory(pair)            ? "RAM and MMIO are the same"
                                                     : "";
        if (difference.empty()) {
            return;
        }
    }
    describe(mode, code.first(decoded.length), before.registers, state.registers, *outcome);
    invariant(false, difference);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::size_t head = 9;
    if (size <= head) {
        return 0;
    }
    const auto mode = static_cast<Mode>(data[0] % 3);
    std::uint64_t seed = 0;
    std::memcpy(&seed, data + 1, sizeof(seed));
    std::array<std::uint8_t, 15> code{};
    code.fill(0x90);
    std::copy_n(data + head, std::min(size - head, code.size()), code.begin());

    auto& pair = pair_of(mode);
    try_one(pair, mode, seed, code);
    pair.oracle->restore();
    pair.machine.restore();
    return 0;
}
