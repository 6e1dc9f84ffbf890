// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <array>
#include <tuple>
#include <utility>

#include <fmt/format.h>

using namespace wherry::conformance;
namespace names = abi::registers;

namespace {

/// Writes what it reads, and reads it again.
void check_survives(const VpBed& bed, std::uint32_t name) {
    CAPTURE(name);
    const auto before = get_register(bed.vp, name);
    REQUIRE(before.call.outcome == "ok");
    CHECK(before.call.reps == 1);
    const auto written = set_register(bed.vp, name, before.value);
    CHECK(written.outcome == "ok");
    CHECK(written.reps == 1);
    CHECK(get_register(bed.vp, name).value == before.value);
}

/// Sheet 8.3, item 11: which of the two is not known.
void check_refused(const HypercallResult& result) {
    CHECK(result.outcome == "EINVAL");
    CHECK((result.status == 5 || result.status == 0x50));
}

} // namespace

TEST_SUITE("mshv.register") {
    TEST_CASE("RIP and RFLAGS take values") {
        const VpBed bed;
        std::array<hypercalls::RegisterAssociation, 2> both;
        both[0].name = names::rip;
        both[0].value.low = 0x1000;
        both[1].name = names::rflags;
        both[1].value.low = 2;
        CHECK(set_registers(bed.vp, both).outcome == "ok");
        CHECK(get_register(bed.vp, names::rip).value.low == 0x1000);
        CHECK(get_register(bed.vp, names::rflags).value.low == 2);
    }

    TEST_CASE("general registers keep 64 bits") {
        const VpBed bed;
        for (std::uint32_t name = names::rax; name <= names::r15; ++name) {
            CAPTURE(name);
            const abi::RegisterValue value{.low = 0x0123'4567'89ab'cdefU + name, .high = 0};
            CHECK(set_register(bed.vp, name, value).outcome == "ok");
            CHECK(get_register(bed.vp, name).value == value);
        }
    }

    TEST_CASE("segments, tables and control registers survive being written back") {
        const VpBed bed;
        for (std::uint32_t name = names::es; name <= names::tr; ++name) {
            check_survives(bed, name);
        }
        for (const std::uint32_t name :
             {names::idtr,
              names::gdtr,
              names::cr0,
              names::cr2,
              names::cr3,
              names::cr4,
              names::cr8,
              names::xfem,
              names::efer,
              names::apic_base,
              names::dr0,
              names::dr3,
              names::dr6,
              names::dr7}) {
            check_survives(bed, name);
        }
    }

    TEST_CASE("floating point and SSE survive") {
        const VpBed bed;
        const abi::RegisterValue value{.low = 0x1111'2222'3333'4444, .high = 0x5555'6666'7777'8888};
        for (std::uint32_t i = 0; i < 16; ++i) {
            CHECK(set_register(bed.vp, names::xmm0 + i, value).outcome == "ok");
            CHECK(get_register(bed.vp, names::xmm0 + i).value == value);
        }
        check_survives(bed, names::fp_control_status);
        auto control = abi::read_as<abi::XmmControlStatusValue>(
            get_register(bed.vp, names::xmm_control_status).value);
        control.mxcsr = 0x1f80;
        control.mxcsr_mask = 0;
        CHECK(
            set_register(bed.vp, names::xmm_control_status, abi::value_of(control)).outcome ==
            "ok");
        const auto read = abi::read_as<abi::XmmControlStatusValue>(
            get_register(bed.vp, names::xmm_control_status).value);
        CHECK(read.mxcsr == 0x1f80);
    }

    TEST_CASE("MSRs take values") {
        const VpBed bed;
        CHECK(set_register(bed.vp, names::sysenter_cs, {.low = 1, .high = 0}).outcome == "ok");
        CHECK(set_register(bed.vp, names::sysenter_esp, {.low = 2, .high = 0}).outcome == "ok");
        CHECK(get_register(bed.vp, names::sysenter_cs).value.low == 1);
        CHECK(get_register(bed.vp, names::sysenter_esp).value.low == 2);
        for (const std::uint32_t name :
             {names::pat,
              names::star,
              names::lstar,
              names::cstar,
              names::sfmask,
              names::kernel_gs_base,
              names::sysenter_eip,
              names::mtrr_default_type,
              names::mtrr_physical_base0,
              names::mtrr_physical_mask0,
              names::mtrr_fix64k_00000,
              names::mtrr_fix4k_f8000}) {
            check_survives(bed, name);
        }
    }

    TEST_CASE("events and synthetic registers survive") {
        const VpBed bed;
        for (const std::uint32_t name :
             {names::pending_interruption,
              names::interrupt_state,
              names::pending_event0,
              names::hypercall,
              names::guest_os_id}) {
            check_survives(bed, name);
        }
    }

    TEST_CASE("the MSRs of Cloud Hypervisor's list that depend on features") {
        const VpBed bed;
        for (const auto& [name, text] :
             {std::pair{names::tsc_aux, "TSC_AUX"},
              std::pair{names::tsc_adjust, "TSC_ADJUST"},
              std::pair{names::spec_control, "SPEC_CTRL"},
              std::pair{names::u_xss, "U_XSS"},
              std::pair{names::debug_control, "DEBUG_CTL"},
              std::pair{names::scontrol, "SCONTROL"},
              std::pair{names::simp, "SIMP"},
              std::pair{names::siefp, "SIEFP"},
              std::pair{names::reference_tsc, "REFERENCE_TSC"},
              std::pair{names::vp_assist_page, "VP_ASSIST_PAGE"}}) {
            const auto read = get_register(bed.vp, name);
            if (read.call.outcome == "ok") {
                check_survives(bed, name);
            }
            saw(text, fmt::format("{}, status {:#x}", read.call.outcome, read.call.status));
        }
    }

    TEST_CASE("an unknown name is status 5, and reps say how far it came") {
        const VpBed bed;
        std::array<hypercalls::RegisterAssociation, 3> three;
        three[0].name = names::rax;
        three[0].value.low = 77;
        three[1].name = 0x0fff'ffff;
        three[2].name = names::rbx;
        three[2].value.low = 88;
        const auto result = set_registers(bed.vp, three);
        CHECK(result.outcome == "EINVAL");
        CHECK(result.status == 5);
        CHECK(result.reps == 1);
        CHECK(get_register(bed.vp, names::rax).value.low == 77);
        CHECK(get_register(bed.vp, names::rbx).value.low != 88);
        CHECK(get_register(bed.vp, 0x0fff'ffff).call.status == 5);
    }

    TEST_CASE("what no processor takes is refused with status 5 or 0x50, and changes nothing") {
        const VpBed bed;
        constexpr std::uint64_t top = std::uint64_t{1} << 63U;
        for (const auto& [name, value, text] :
             {std::tuple{names::cr0, std::uint64_t{0x8000'0000}, "CR0: paging, unprotected"},
              std::tuple{names::cr0, std::uint64_t{0x2000'0010}, "CR0: NW without CD"},
              std::tuple{names::cr0, top | 0x6000'0010U, "CR0 bit 63"},
              std::tuple{names::intermediate_cr0, top | 0x6000'0010U, "INTERMEDIATE_CR0 bit 63"},
              std::tuple{names::cr4, top, "CR4 bit 63"},
              std::tuple{names::cr4, std::uint64_t{1} << 15U, "CR4 bit 15"},
              std::tuple{names::intermediate_cr4, top, "INTERMEDIATE_CR4 bit 63"},
              std::tuple{names::cr8, std::uint64_t{16}, "CR8: priority 16"},
              std::tuple{names::efer, top, "EFER bit 63"},
              std::tuple{names::efer, std::uint64_t{2}, "EFER bit 1"},
              std::tuple{names::efer, std::uint64_t{0x400}, "EFER: LMA without LME"},
              std::tuple{names::dr7, top | 0x400U, "DR7 bit 63"},
              std::tuple{names::xfem, std::uint64_t{0}, "XFEM without x87"}}) {
            CAPTURE(text);
            const auto before = get_register(bed.vp, name).value;
            check_refused(set_register(bed.vp, name, {.low = value, .high = 0}));
            CHECK(get_register(bed.vp, name).value == before);
        }
    }

    TEST_CASE("long mode without PAE, and its mark without paging, are refused") {
        for (const auto& [cr0, cr4, efer] :
             {std::tuple{0x8000'0011U, 0x0U, 0x500U},     // no PAE
              std::tuple{0x8000'0011U, 0x20U, 0x100U},    // LME and PG, but not LMA
              std::tuple{0x0000'0011U, 0x20U, 0x500U}}) { // LMA without PG
            CAPTURE(cr0);
            CAPTURE(cr4);
            CAPTURE(efer);
            const VpBed bed;
            std::array<hypercalls::RegisterAssociation, 3> three;
            three[0].name = names::efer;
            three[0].value.low = efer;
            three[1].name = names::cr4;
            three[1].value.low = cr4;
            three[2].name = names::cr0;
            three[2].value.low = cr0;
            check_refused(set_registers(bed.vp, three));
        }
    }

    TEST_CASE("DELIVERABILITY_NOTIFICATIONS takes 0") {
        const VpBed bed;
        constexpr auto name = names::deliverability_notifications;
        CHECK(set_register(bed.vp, name, {.low = 0, .high = 0}).outcome == "ok");
        // rust-vmm's test host refused bit 0 with status 5; its meaning is not known.
        const auto one = set_register(bed.vp, name, {.low = 1, .high = 0});
        saw("DELIVERABILITY_NOTIFICATIONS = 1",
            fmt::format("{}, status {:#x}", one.outcome, one.status));
    }

    TEST_CASE("a VP that is not there is refused") {
        const VpBed bed;
        const auto result = get_register(bed.partition, names::rip, 7);
        CHECK(result.call.outcome == "EINVAL");
        CHECK(result.call.status == 0x0e);
    }
}
