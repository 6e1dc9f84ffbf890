// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/vmm/x86_fixture.hpp"
#include "vmm/x86/page_walk.hpp"

namespace {

using namespace wherry;
using tests::X86Bench;
namespace x86 = vmm::x86;
using x86::Access;

constexpr std::uint64_t leaf_of_page_5 = 0x20'3000 + 5 * 8;
constexpr std::uint64_t no_execute = std::uint64_t{1} << 63U;

struct Walker : X86Bench {
    std::uint64_t to(std::uint64_t linear, Access access = Access::read) {
        const auto translation = tests::must(x86::translate(cpu, memory, linear, access));
        REQUIRE(translation.has_value());
        return translation->value();
    }
    std::uint32_t code(std::uint64_t linear, Access access) {
        const auto translation = tests::must(x86::translate(cpu, memory, linear, access));
        REQUIRE_FALSE(translation.has_value());
        CHECK(translation.error().vector == x86::vector::page_fault);
        CHECK(translation.error().parameter == linear);
        return translation.error().error_code.value_or(~0U);
    }
    void become_user() { cpu.system.ss.attributes |= 3U << 5U; }
};

} // namespace

TEST_SUITE("vmm.x86_page_walk") {
    TEST_CASE("without paging an address is itself") {
        Walker walker;
        CHECK(walker.to(0x1234'5678, Access::write) == 0x1234'5678);
    }

    TEST_CASE("four levels, with accessed and dirty set in what was used") {
        Walker walker;
        walker.enter_long_mode();
        walker.put(leaf_of_page_5, 0x0000'0012'3456'7007);
        CHECK(walker.to(0x5abc) == 0x12'3456'7abc);
        CHECK(walker.get(leaf_of_page_5) == 0x0000'0012'3456'7027);
        CHECK(walker.get(0x20'0000) == 0x20'1027);
        CHECK(walker.to(0x5abc, Access::write) == 0x12'3456'7abc);
        CHECK(walker.get(leaf_of_page_5) == 0x0000'0012'3456'7067);
        CHECK(walker.get(0x20'2000) == 0x20'3027);
    }

    TEST_CASE("large pages of 2 MiB and 1 GiB, and their reserved bits") {
        Walker walker;
        walker.enter_long_mode();
        walker.put(0x20'2008, 0x4060'0087);
        CHECK(walker.to(0x2a'bcde) == 0x406a'bcde);
        walker.put(0x20'1008, 0x8000'0087);
        CHECK(walker.to(0x4123'4567) == 0x8123'4567);
        walker.put(0x20'2008, 0x4060'2087); // bit 13
        CHECK(walker.code(0x20'0000, Access::read) == 0x9);
        walker.put(0x20'0008, 0x20'1087); // large at level 4
        CHECK(walker.code(0x80'0000'0000, Access::write) == 0xb);
    }

    TEST_CASE("five levels") {
        Walker walker;
        walker.enter_long_mode();
        walker.put(0x30'0000 + 8 * 1, 0x20'0007);
        walker.cpu.system.cr3 = 0x30'0000;
        walker.cpu.system.cr4 |= x86::cr4::la57;
        CHECK(walker.to(0x1'0000'0000'5678) == 0x5678);
        CHECK(walker.code(0x5678, Access::read) == 0);
    }

    TEST_CASE("PAE: four pointers without permissions") {
        Walker walker;
        walker.cpu.system.cr0 |= x86::cr0::pg;
        walker.cpu.system.cr4 = x86::cr4::pae;
        walker.cpu.system.cr3 = 0x20'0020; // 32-byte aligned
        walker.put(0x20'0038, 0x20'1001);
        walker.put(0x20'1008, 0x20'2007);
        walker.put(0x20'2018, 0x5'0000'0007);
        CHECK(walker.to(0xc020'3456, Access::write) == 0x5'0000'0456);
        CHECK(walker.get(0x20'0038) == 0x20'1001);
        walker.put(0x20'0038, 0x20'1003);
        CHECK(walker.code(0xc020'3456, Access::read) == 0x9);
    }

    TEST_CASE("two levels, and 4 MiB pages beyond 4 GiB") {
        Walker walker;
        walker.cpu.system.cr0 |= x86::cr0::pg;
        walker.cpu.system.cr3 = 0x20'0000;
        walker.put(0x20'0004, 0x20'1007, 4);
        walker.put(0x20'100c, 0xd000'0007, 4);
        CHECK(walker.to(0x0040'3123, Access::write) == 0xd000'0123);
        CHECK(walker.get(0x20'100c, 4) == 0xd000'0067);
        walker.put(0x20'0008, 0x0040'2087, 4); // address bit 32
        walker.cpu.system.cr4 = x86::cr4::pse;
        CHECK(walker.to(0x0081'2345) == 0x1'0041'2345);
        walker.put(0x20'0008, 0x0060'0087, 4); // bit 21
        CHECK(walker.code(0x0081'2345, Access::read) == 0x9);
    }

    TEST_CASE("what is not present, not writable or not the user's faults") {
        Walker walker;
        walker.enter_long_mode();
        walker.put(leaf_of_page_5, 0);
        CHECK(walker.code(0x5000, Access::read) == 0);
        CHECK(walker.code(0x5000, Access::write) == 2);
        walker.become_user();
        CHECK(walker.code(0x5000, Access::read) == 4);
        walker.put(leaf_of_page_5, 0x5005);
        CHECK(walker.to(0x5000) == 0x5000);
        CHECK(walker.code(0x5000, Access::write) == 7);
        walker.put(leaf_of_page_5, 0x5003);
        CHECK(walker.code(0x5000, Access::read) == 5);
        walker.put(leaf_of_page_5, 0x5007);
        walker.put(0x20'1000, 0x20'2003); // an upper level takes the permission away
        CHECK(walker.code(0x5000, Access::read) == 5);
    }

    TEST_CASE("a supervisor writes to read-only pages where WP is clear") {
        Walker walker;
        walker.enter_long_mode();
        walker.put(leaf_of_page_5, 0x5001);
        CHECK(walker.to(0x5000, Access::write) == 0x5000);
        walker.cpu.system.cr0 |= x86::cr0::wp;
        CHECK(walker.code(0x5000, Access::write) == 3);
    }

    TEST_CASE("NX, SMEP and SMAP") {
        Walker walker;
        walker.enter_long_mode();
        walker.put(leaf_of_page_5, 0x5007 | no_execute);
        CHECK(walker.code(0x5000, Access::execute) == 0x11);
        CHECK(walker.to(0x5000) == 0x5000);
        walker.cpu.system.efer = x86::efer::lma; // the bit is reserved then
        CHECK(walker.code(0x5000, Access::read) == 0x9);
        walker.put(leaf_of_page_5, 0x5007);
        CHECK(walker.to(0x5000, Access::execute) == 0x5000);
        walker.cpu.system.cr4 |= x86::cr4::smep;
        CHECK(walker.code(0x5000, Access::execute) == 0x11);
        walker.cpu.system.cr4 |= x86::cr4::smap;
        CHECK(walker.code(0x5000, Access::read) == 1);
        walker.cpu.registers.rflags |= x86::rflags::ac;
        CHECK(walker.to(0x5000) == 0x5000);
    }

    TEST_CASE("a table outside RAM is an error that names the entry") {
        Walker walker;
        walker.enter_long_mode();
        walker.cpu.system.cr3 = 0xe000'0000;
        const auto translation = x86::translate(walker.cpu, walker.memory, 0x5000, Access::read);
        REQUIRE_FALSE(translation.has_value());
        CHECK(translation.error().text().find("0xe0000000") != std::string::npos);
    }
}
