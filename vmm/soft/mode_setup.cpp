// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/mode_setup.hpp"

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::Result;
using formats::Status;

namespace {

// The scratch machine: 64 KiB at 0.
constexpr std::uint32_t code_at = 0x1000;
constexpr std::uint32_t gdt_at = 0x2000;
constexpr std::uint32_t gdt_pointer_at = 0x2100;
constexpr std::uint32_t pml4_at = 0x3000;
constexpr std::uint32_t pdpt_at = 0x4000;
constexpr std::uint32_t pd_at = 0x5000;
constexpr std::size_t scratch_size = 0x10000;

constexpr std::uint64_t cr0_protection = 1;
constexpr std::uint64_t cr4_physical_extension = 1U << 5U;
/// What Unicorn 2.0.1 acts upon or may keep without harm: VME to OSXMMEXCPT.
constexpr std::uint64_t cr4_known = 0x7ff;
constexpr std::uint32_t attribute_unusable = 1U << 16U;
constexpr std::uint32_t attribute_long = 1U << 13U;
constexpr std::uint32_t attribute_big = 1U << 14U;

bool is_usable(const Segment& segment) {
    return (segment.attributes & attribute_unusable) == 0 && (segment.attributes & 0x80U) != 0;
}

std::uint32_t privilege_of(const Segment& segment) {
    return (segment.attributes >> 5U) & 3U;
}

/// The descriptor of a segment at `base`; the limit is the segment's own.
std::uint64_t descriptor(const Segment& segment, std::uint32_t base) {
    const bool in_pages = (segment.attributes & 0x8000U) != 0;
    const std::uint64_t limit = in_pages ? segment.limit >> 12U : segment.limit & 0xfffffU;
    const std::uint64_t attributes = segment.attributes & 0xf0ffU;
    return (limit & 0xffffU) | (std::uint64_t{base & 0xffffffU} << 16U) | (attributes << 40U) |
           ((limit >> 16U) << 48U) | (std::uint64_t{base >> 24U} << 56U);
}

std::unexpected<formats::Error> cannot(std::string_view what) {
    return formats::fail(
        ErrorCode::incompatible,
        "the soft backend cannot run a vCPU with " + std::string{what} +
            "; kvm can, where there is /dev/kvm");
}

Status check(const SystemRegisters& system) {
    const bool long_mode = (system.efer & efer_long_mode_active) != 0;
    if ((system.cr0 & cr0_protection) == 0) {
        return cannot("real mode (CR0.PE clear)");
    }
    if ((system.efer & ~(efer_long_mode_enabled | efer_long_mode_active)) != 0) {
        return cannot("EFER bits other than LME and LMA (SCE, NXE)");
    }
    if ((system.cr4 & ~cr4_known) != 0) {
        return cannot("CR4 bits above OSXMMEXCPT");
    }
    if (long_mode &&
        ((system.cr4 & cr4_physical_extension) == 0 || (system.cr0 & cr0_paging) == 0 ||
         (system.efer & efer_long_mode_enabled) == 0)) {
        return cannot("EFER.LMA set without LME, CR0.PG and CR4.PAE");
    }
    if (!is_usable(system.cs) || (system.cs.attributes & 0x18U) != 0x18U) {
        return cannot("CS not a present code segment");
    }
    if ((system.cs.attributes & (attribute_long | attribute_big)) == 0) {
        return cannot("16-bit code");
    }
    const bool code64 = long_mode && (system.cs.attributes & attribute_long) != 0;
    if (!is_usable(system.ss) && !code64) {
        return cannot("SS not usable outside of 64-bit code");
    }
    if (is_usable(system.ss) ? privilege_of(system.ss) != 0 : (system.cs.selector & 3U) != 0) {
        return cannot("code outside of ring 0");
    }
    return {};
}

Status check_real_mode(const SystemRegisters& system) {
    if ((system.cr0 & (cr0_protection | cr0_paging)) != 0 || system.efer != 0 ||
        (system.cr4 & ~cr4_known) != 0) {
        return cannot("this combination of CR0, CR4 and EFER in real mode");
    }
    if (((system.cs.attributes | system.ss.attributes) & (attribute_big | attribute_long)) != 0) {
        return cannot("32-bit code or stack in real mode");
    }
    return {};
}

void append(std::vector<std::uint8_t>& code, std::initializer_list<std::uint8_t> bytes) {
    code.insert(code.end(), bytes);
}

void append32(std::vector<std::uint8_t>& code, std::uint64_t value) {
    for (unsigned shift = 0; shift < 32; shift += 8) {
        code.push_back(static_cast<std::uint8_t>(value >> shift));
    }
}

void append_load_eax(std::vector<std::uint8_t>& code, std::uint64_t value) {
    code.push_back(0xb8); // mov eax, imm32: the same bytes in 32- and 64-bit code
    append32(code, value);
}

/// From flat 32-bit code, as an engine of UC_MODE_32 begins, to the mode and segments of `system`.
std::vector<std::uint8_t> entry_code(const SystemRegisters& system) {
    const bool long_mode = (system.efer & efer_long_mode_active) != 0;
    std::vector<std::uint8_t> code{0x0f, 0x01, 0x15}; // lgdt [imm32]
    append32(code, gdt_pointer_at);
    append_load_eax(code, system.cr4);
    append(code, {0x0f, 0x22, 0xe0}); // mov cr4, eax
    append_load_eax(code, pml4_at);
    append(code, {0x0f, 0x22, 0xd8, 0xb9, 0x80, 0x00, 0x00, 0xc0}); // mov cr3; mov ecx, EFER
    append_load_eax(code, system.efer & efer_long_mode_enabled);
    append(code, {0x31, 0xd2, 0x0f, 0x30}); // xor edx, edx; wrmsr
    // Paging without long mode leaves no trace but CR0 itself, which the caller writes.
    append_load_eax(code, (system.cr0 & ~cr0_paging) | (long_mode ? cr0_paging : 0));
    append(code, {0x0f, 0x22, 0xc0}); // mov cr0, eax
    code.push_back(0xea);             // jmp far 0x18: next instruction
    append32(code, code_at + code.size() + 6);
    append(code, {0x18, 0x00});
    append_load_eax(code, is_usable(system.ss) ? 0x20 : 0);
    append(code, {0x8e, 0xd0}); // mov ss, eax
    append_load_eax(code, is_usable(system.ds) ? 0x28 : 0);
    append(code, {0x8e, 0xd8}); // mov ds, eax
    append_load_eax(code, is_usable(system.es) ? 0x30 : 0);
    append(code, {0x8e, 0xc0, 0xf4}); // mov es, eax; hlt
    return code;
}

template <typename T>
Status put(const Engine& engine, std::uint32_t at, const T& bytes) {
    return checked(
        uc_mem_write(engine.get(), at, bytes.data(), bytes.size() * sizeof(bytes[0])),
        "uc_mem_write");
}

Status fill_scratch(
    const Engine& engine, const SystemRegisters& system, const std::vector<std::uint8_t>& code) {
    // As loaded, a data segment cannot have more privilege than it is asked for with; the ring is
    // 0 here, so any will do.
    const std::array<std::uint64_t, 7> gdt{
        0,
        0x00cf9b000000ffff,
        0x00cf93000000ffff,
        descriptor(system.cs, 0) | 0x000f'0000'0000'ffff,
        descriptor(system.ss, static_cast<std::uint32_t>(system.ss.base)),
        descriptor(system.ds, static_cast<std::uint32_t>(system.ds.base)),
        descriptor(system.es, static_cast<std::uint32_t>(system.es.base))};
    const std::array<std::uint16_t, 3> pointer{sizeof gdt - 1, gdt_at, 0};
    const std::array<std::uint64_t, 1> pml4{pdpt_at | 3U};
    const std::array<std::uint64_t, 1> pdpt{pd_at | 3U};
    const std::array<std::uint64_t, 1> pd{0x83}; // 2 MiB at 0
    return in_turn(
        [&] {
            return checked(
                uc_mem_map(engine.get(), 0, scratch_size, UC_PROT_ALL),
                "uc_mem_map of a scratch engine");
        },
        [&] { return put(engine, pml4_at, pml4); },
        [&] { return put(engine, pdpt_at, pdpt); },
        [&] { return put(engine, pd_at, pd); },
        [&] { return put(engine, gdt_at, gdt); },
        [&] { return put(engine, gdt_pointer_at, pointer); },
        [&] { return put(engine, code_at, code); });
}

} // namespace

bool has_possible_values(const SystemRegisters& system) noexcept {
    const bool is_in_ring0 = (!is_usable(system.ss) || privilege_of(system.ss) == 0) &&
                             (!is_usable(system.cs) || privilege_of(system.cs) == 0);
    return is_in_ring0 && (system.cr4 & ~cr4_known) == 0 &&
           (system.efer & ~(efer_long_mode_enabled | efer_long_mode_active)) == 0;
}

bool is_possible_mode(const SystemRegisters& system) {
    return ((system.cr0 & cr0_protection) != 0 ? check(system) : check_real_mode(system))
        .has_value();
}

Result<CpuImage> image_in_real_mode(const SystemRegisters& system) {
    if (auto possible = check_real_mode(system); !possible) {
        return std::unexpected{std::move(possible).error()};
    }
    const auto start = Engine::open(UC_MODE_16);
    if (!start) {
        return std::unexpected{start.error()};
    }
    return start->image();
}

Result<CpuImage> image_in_mode(const SystemRegisters& system) {
    if (auto possible = check(system); !possible) {
        return std::unexpected{std::move(possible).error()};
    }
    auto legacy = Engine::open(UC_MODE_32);
    auto scratch = Engine::open(UC_MODE_64);
    if (!legacy || !scratch) {
        return std::unexpected{std::move(!legacy ? legacy : scratch).error()};
    }
    auto start = legacy->image();
    if (!start) {
        return std::unexpected{std::move(start).error()};
    }
    const auto code = entry_code(system);
    auto ran = in_turn(
        [&] { return scratch->put(*start); },
        [&] { return fill_scratch(*scratch, system, code); },
        [&] {
            return checked(
                uc_emu_start(scratch->get(), code_at, 0, 0, 0), "uc_emu_start of a scratch engine");
        });
    if (!ran) {
        return std::unexpected{std::move(ran).error()};
    }
    if (scratch->read<std::uint64_t>(UC_X86_REG_RIP) != code_at + code.size()) {
        return cannot("this combination of CR0, CR4, EFER and segments");
    }
    return scratch->image();
}

} // namespace wherry::vmm::soft
