// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/vmm/x86_fixture.hpp"
#include "vmm/x86/emulator.hpp"

namespace {

using namespace wherry;
using tests::device_at;
using tests::Log;
using tests::X86Bench;
namespace x86 = vmm::x86;

} // namespace

TEST_SUITE("vmm.x86_emulator") {
    TEST_CASE("MOV writes and reads a device in the operand's size") {
        X86Bench bench;
        bench.cpu.registers.rbx = device_at;
        bench.cpu.registers.rax = 0x1122'3344;
        bench.run({0x89, 0x03});       // mov [ebx], eax
        bench.run({0x66, 0x89, 0x03}); // mov [ebx], ax
        bench.run({0x88, 0x63, 0x05}); // mov [ebx + 5], ah
        bench.run({0xc7, 0x03, 0x78, 0x56, 0x34, 0x12});
        bench.bus.answer = 0xaabb'ccdd;
        CHECK(bench.run({0x8a, 0x03}).rax == 0x1122'33dd); // mov al, [ebx]
        CHECK(bench.run({0x8b, 0x03}).rax == 0xaabb'ccdd);
        CHECK(
            bench.bus.log == Log{"write4 d0000000 11223344",
                                 "write2 d0000000 3344",
                                 "write1 d0000005 33",
                                 "write4 d0000000 12345678",
                                 "read1 d0000000",
                                 "read4 d0000000"});
    }

    TEST_CASE("MOVZX, MOVSX and MOVBE widen and turn what they read") {
        X86Bench bench;
        bench.cpu.registers.rbx = device_at;
        bench.bus.answer = 0x8081;
        CHECK(bench.run({0x0f, 0xb6, 0x03}).rax == 0x81);
        CHECK(bench.run({0x0f, 0xb7, 0x03}).rax == 0x8081);
        CHECK(bench.run({0x0f, 0xbe, 0x03}).rax == 0xffff'ff81);
        CHECK(bench.run({0x0f, 0xbf, 0x03}).rax == 0xffff'8081);
        bench.bus.answer = 0x1122'3344;
        CHECK(bench.run({0x0f, 0x38, 0xf0, 0x03}).rax == 0x4433'2211);
    }

    TEST_CASE("arithmetic reads once, writes once, and sets flags") {
        X86Bench bench;
        bench.cpu.registers.rbx = device_at;
        bench.bus.answer = 0xffff'ffff;
        bench.cpu.registers.rax = 1;
        const auto flags = bench.run({0x01, 0x03}).rflags; // add [ebx], eax
        CHECK(
            (flags & x86::rflags::arithmetic) ==
            (x86::rflags::cf | x86::rflags::zf | x86::rflags::af | x86::rflags::pf));
        CHECK(bench.bus.log == Log{"read4 d0000000", "write4 d0000000 0"});
        bench.bus.log.clear();
        bench.run({0x83, 0x3b, 0xff}); // cmp dword [ebx], -1
        CHECK((bench.cpu.registers.rflags & x86::rflags::zf) != 0);
        bench.run({0xf6, 0x03, 0x80}); // test byte [ebx], 0x80
        CHECK((bench.cpu.registers.rflags & x86::rflags::sf) != 0);
        CHECK(bench.bus.log == Log{"read4 d0000000", "read1 d0000000"});
    }

    TEST_CASE("INC keeps the carry, NOT keeps all flags") {
        X86Bench bench;
        bench.cpu.registers.rbx = device_at;
        bench.cpu.registers.rflags = 2 | x86::rflags::cf;
        bench.bus.answer = 0x7f;
        const auto flags = bench.run({0xfe, 0x03}).rflags; // inc byte [ebx]
        CHECK((flags & x86::rflags::cf) != 0);
        CHECK((flags & x86::rflags::of) != 0);
        CHECK(bench.run({0xf6, 0x13}).rflags == flags);
        CHECK(bench.bus.log.back() == "write1 d0000000 80");
    }

    TEST_CASE("XCHG, XADD and CMPXCHG hand back what was there") {
        X86Bench bench;
        auto& registers = bench.cpu.registers;
        registers.rbx = device_at;
        registers.rcx = 5;
        bench.bus.answer = 9;
        CHECK(bench.run({0x87, 0x0b}).rcx == 9);
        CHECK(bench.bus.log.back() == "write4 d0000000 5");
        CHECK(bench.run({0xf0, 0x0f, 0xc1, 0x0b}).rcx == 9); // lock xadd
        CHECK(bench.bus.log.back() == "write4 d0000000 12");
        registers.rax = 9;
        registers.rcx = 0x77;
        CHECK((bench.run({0xf0, 0x0f, 0xb1, 0x0b}).rflags & x86::rflags::zf) != 0);
        CHECK(bench.bus.log.back() == "write4 d0000000 77");
        registers.rax = 8;
        CHECK(bench.run({0xf0, 0x0f, 0xb1, 0x0b}).rax == 9);
        CHECK(bench.bus.log.back() == "write4 d0000000 9");
    }

    TEST_CASE("a bit number in a register reaches beyond the operand, in both directions") {
        X86Bench bench;
        bench.cpu.registers.rbx = device_at + 0x100;
        bench.cpu.registers.rcx = 65;
        bench.run({0x0f, 0xab, 0x0b}); // bts [ebx], ecx
        bench.cpu.registers.rcx = 0xffff'ffff;
        bench.run({0x0f, 0xa3, 0x0b});       // bt [ebx], ecx
        bench.run({0x0f, 0xba, 0x33, 0x21}); // btr dword [ebx], 33: modulo 32
        CHECK(
            bench.bus.log == Log{"read4 d0000108",
                                 "write4 d0000108 2",
                                 "read4 d00000fc",
                                 "read4 d0000100",
                                 "write4 d0000100 0"});
    }

    TEST_CASE("REP STOS and REP MOVS between RAM and a device") {
        X86Bench bench;
        auto& registers = bench.cpu.registers;
        registers.rdi = device_at;
        registers.rcx = 2;
        registers.rax = 0xab;
        CHECK(bench.run({0xf3, 0xaa}).rcx == 0);
        CHECK(bench.bus.log == Log{"write1 d0000000 ab", "write1 d0000001 ab"});
        bench.bus.log.clear();
        bench.put(0x3000, 0x8877'6655'4433'2211);
        registers.rsi = 0x3004;
        registers.rcx = 2;
        registers.rflags |= x86::rflags::df;
        bench.run({0xf3, 0xa5});
        CHECK(
            bench.bus.log ==
            Log{"write4 d0000002 88776655", "write2 cffffffe 2211", "write2 d0000000 4433"});
        CHECK(registers.rsi == 0x2ffc);
    }

    TEST_CASE("REPNE SCAS ends at what it looks for, REP with a count of 0 does nothing") {
        X86Bench bench;
        auto& registers = bench.cpu.registers;
        bench.put(0x3000, 0x0000'0000'0041'4243);
        registers.rdi = 0x3000;
        registers.rcx = 100;
        registers.rax = 0x41;
        CHECK(bench.run({0xf2, 0xae}).rcx == 97);
        CHECK(registers.rdi == 0x3003);
        registers.rcx = 0;
        CHECK(bench.run({0xf3, 0xaa}).rdi == 0x3003);
    }

    TEST_CASE("a long REP comes back in between, and a fault keeps the iterations before it") {
        X86Bench bench;
        bench.cpu.registers.rdi = device_at;
        bench.cpu.registers.rcx = x86::repetitions_per_call + 5;
        const auto outcome = tests::must(bench.attempt({0xf3, 0xaa}));
        CHECK(outcome.registers.rip == 0x1000);
        CHECK(outcome.registers.rcx == 5);

        bench.enter_long_mode();
        bench.cpu.registers.rdi = 0x1f'fffe; // tables end at 2 MiB
        bench.cpu.registers.rcx = 10;
        const auto stopped = tests::must(bench.attempt({0xf3, 0xaa}));
        CHECK(stopped.registers.rcx == 8);
        CHECK(stopped.exception->vector == x86::vector::page_fault);
        CHECK(stopped.exception->parameter == 0x20'0000);
        CHECK(stopped.exception->error_code == 2);
    }

    TEST_CASE("string port I/O and IN, OUT reach the ports") {
        X86Bench bench;
        auto& registers = bench.cpu.registers;
        registers.rdx = 0x3f8;
        registers.rsi = 0x3000;
        registers.rdi = 0x4000;
        registers.rcx = 2;
        bench.put(0x3000, 0x4241);
        bench.run({0xf3, 0x6e}); // rep outsb
        bench.bus.answer = 0x55;
        bench.run({0x6c}); // insb
        CHECK(bench.get(0x4000, 1) == 0x55);
        bench.run({0xec});       // in al, dx
        bench.run({0xe7, 0x80}); // out 0x80, eax
        CHECK(
            bench.bus.log == Log{"out1 3f8 41", "out1 3f8 42", "in1 3f8", "in1 3f8", "out4 80 55"});
    }

    TEST_CASE("an access across a page edge goes to each page's own place") {
        X86Bench bench;
        bench.enter_long_mode();
        bench.put(0x20'3000 + 0x11 * 8, device_at | 7U); // page 0x11 is the device
        bench.cpu.registers.rbx = 0x10ffd;
        bench.cpu.registers.rax = 0x8877'6655'4433'2211;
        bench.run({0x48, 0x89, 0x03});
        CHECK(bench.get(0x10ffd, 3) == 0x33'2211);
        CHECK(bench.bus.log == Log{"write4 d0000000 77665544", "write1 d0000004 88"});
    }

    TEST_CASE("real mode adds segment bases, 64-bit mode those of FS and GS alone") {
        X86Bench bench;
        bench.cpu.system.cr0 = 0;
        bench.cpu.system.cs.attributes = 0x9b;
        bench.cpu.system.ds = {
            .base = 0x12340, .limit = 0xffff, .selector = 0x1234, .attributes = 0x93};
        bench.cpu.registers.rax = 0xbeef;
        bench.run({0xa3, 0x10, 0x00}); // mov [0x10], ax
        CHECK(bench.get(0x12350, 2) == 0xbeef);

        bench.cpu = X86Bench::flat_32();
        bench.enter_long_mode();
        bench.cpu.system.ds.base = 0x7000;
        bench.cpu.system.gs.base = 0x8000;
        bench.cpu.registers.rax = 0x77;
        bench.cpu.registers.rbx = 0x100;
        bench.run({0x88, 0x03});
        bench.run({0x65, 0x88, 0x03});
        CHECK(bench.get(0x100, 1) == 0x77);
        CHECK(bench.get(0x8100, 1) == 0x77);
    }

    TEST_CASE("segment limits and types are checked outside 64-bit mode") {
        X86Bench bench;
        bench.cpu.system.ds.limit = 0xfff;
        bench.cpu.registers.rbx = 0xffd;
        const x86::Exception protection{
            .vector = x86::vector::general_protection, .error_code = 0, .parameter = 0};
        CHECK(bench.fault({0x89, 0x03}) == protection);
        bench.run({0x88, 0x03});
        bench.cpu.system.ds.attributes = 0xc091; // read-only
        CHECK(bench.fault({0x88, 0x03}) == protection);
        bench.cpu.system.ss.limit = 0xfff;
        CHECK(bench.fault({0x36, 0x89, 0x03}).vector == x86::vector::stack_segment);
        bench.cpu.system.es.attributes = 0x10000; // unusable
        CHECK(bench.fault({0x26, 0x8a, 0x03}) == protection);
        bench.enter_long_mode();
        bench.cpu.registers.rbx = 0x8000'0000'0000'0000;
        CHECK(bench.fault({0x88, 0x03}) == protection);
    }

    TEST_CASE("a fault is found before a device is read") {
        X86Bench bench;
        bench.enter_long_mode();
        bench.put(0x20'3000 + 0x11 * 8, device_at | 7U);
        bench.cpu.registers.rsi = 0x11000;
        bench.cpu.registers.rdi = 0x30'0000; // not mapped
        CHECK(bench.fault({0xa4}).parameter == 0x30'0000);
        CHECK(bench.bus.log.empty());
    }

    TEST_CASE("code that was not delivered is fetched through the page tables") {
        X86Bench bench;
        bench.enter_long_mode();
        bench.put(0x20'3000 + 1 * 8, 0x5000 | 7U);
        bench.put(0x5000, 0x03'88);
        bench.cpu.registers.rbx = 0x3000;
        bench.cpu.registers.rax = 0x5a;
        CHECK(tests::must(bench.attempt({})).registers.rip == 0x1002);
        CHECK(tests::must(bench.attempt({0x88})).registers.rip == 0x1002);
        CHECK(bench.get(0x3000, 1) == 0x5a);
        bench.put(0x20'3000 + 1 * 8, 0);
        CHECK(bench.fault({}).error_code == 0x10);
    }

    TEST_CASE("a single step traps after the instruction") {
        X86Bench bench;
        bench.cpu.registers.rflags |= x86::rflags::tf;
        const auto outcome = tests::must(bench.attempt({0x88, 0x03}));
        CHECK(outcome.registers.rip == 0x1002);
        CHECK(outcome.exception->vector == x86::vector::debug);
        CHECK(outcome.exception->parameter == 0x4000);
    }

    TEST_CASE("what is not known is refused by name, and changes nothing") {
        X86Bench bench;
        bench.cpu.registers.rbx = device_at;
        const auto shift = bench.attempt({0xd1, 0x23}); // shl dword [ebx], 1
        REQUIRE_FALSE(shift.has_value());
        CHECK(shift.error().code() == formats::ErrorCode::unsupported);
        CHECK(shift.error().text().find("shl (d1 23)") != std::string::npos);
        CHECK_FALSE(bench.attempt({0x8e, 0x1b}).has_value());       // mov ds, [ebx]
        CHECK_FALSE(bench.attempt({0x0f, 0x6f, 0x03}).has_value()); // movq mm0, [ebx]
        CHECK(bench.bus.log.empty());
        CHECK(bench.fault({0xf0, 0x89, 0x03}).vector == x86::vector::invalid_opcode);
    }
}
