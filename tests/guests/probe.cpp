// SPDX-License-Identifier: Apache-2.0
// A guest for a PC of any VMM: asks its devices what it knows the answer of, by port and by memory,
// waits for interrupts, and prints a verdict. tests/guests/README.md has the lines. 32 bits, ring
// 0.
#include <stdint.h>

namespace {

constexpr uint16_t serial_port = 0x3f8;
constexpr uint16_t debug_port = 0x402;
constexpr uint16_t exit_port = 0x501;
constexpr uint32_t io_apic = 0xfec00000;
constexpr uint32_t hpet = 0xfed00000;
constexpr uint32_t local_apic = 0xfee00000;
constexpr uint32_t firmware = 0xfffffff0;

unsigned checks = 0;
unsigned failures = 0;
volatile unsigned interrupts = 0;

template <typename Value>
void out(uint16_t port, Value value) {
    if constexpr (sizeof(Value) == 1) {
        asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
    } else if constexpr (sizeof(Value) == 2) {
        asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
    } else {
        asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
    }
}

/// All of EAX, which held `before`.
template <typename Value>
uint32_t in(uint16_t port, uint32_t before = 0) {
    if constexpr (sizeof(Value) == 1) {
        asm volatile("inb %1, %%al" : "+a"(before) : "Nd"(port) : "memory");
    } else if constexpr (sizeof(Value) == 2) {
        asm volatile("inw %1, %%ax" : "+a"(before) : "Nd"(port) : "memory");
    } else {
        asm volatile("inl %1, %%eax" : "+a"(before) : "Nd"(port) : "memory");
    }
    return before;
}

uint32_t load(uint32_t address) {
    uint32_t value = 0;
    asm volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
    return value;
}

void store(uint32_t address, uint32_t value) {
    asm volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

void say(const char* text) {
    for (; *text != '\0'; ++text) {
        out<uint8_t>(serial_port, static_cast<uint8_t>(*text));
    }
}

void say_hex(uint32_t value) {
    say("0x");
    for (unsigned shift = 32; shift > 0;) {
        shift -= 4;
        const char digit[] = {"0123456789abcdef"[value >> shift & 15U], '\0'};
        say(digit);
    }
}

void say_decimal(uint32_t value) {
    if (value >= 10) {
        say_decimal(value / 10);
    }
    const char digit[] = {static_cast<char>('0' + value % 10), '\0'};
    say(digit);
}

[[noreturn]] void end_vm(uint8_t code) {
    for (;;) {
        out<uint8_t>(exit_port, code);
        asm volatile("cli; hlt");
    }
}

void check(const char* name, uint32_t found, uint32_t expected) {
    ++checks;
    say("wherry-probe ");
    say(name);
    if (found == expected) {
        say(" ok\n");
        return;
    }
    ++failures;
    say(" wrong expected=");
    say_hex(expected);
    say(" found=");
    say_hex(found);
    say("\n");
}

void check_ports() {
    constexpr uint16_t scratch = serial_port + 7;
    constexpr uint8_t values[] = {0x5a, 0xa5};
    for (const uint8_t value : values) {
        out<uint8_t>(scratch, value);
        check("port.byte", in<uint8_t>(scratch, 0x11223344), 0x11223300U | value);
    }
    out<uint32_t>(0xcf8, 0x80000000); // PCI 0:0.0: the host bridge
    const uint32_t identity = in<uint32_t>(0xcfc);
    check("port.long", identity & 0xffffU, 0x8086);
    check("port.word", in<uint16_t>(0xcfe, 0x55667788), 0x55660000U | identity >> 16U);
}

void check_strings() {
    constexpr uint16_t select_signature = 0; // of QEMU's fw_cfg
    out<uint16_t>(0x510, select_signature);
    uint8_t found[5] = {};
    uint32_t count = 4;
    const uint8_t* to = found;
    asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(uint16_t{0x511}) : "memory");
    check("string.in.0", found[0], 'Q');
    check("string.in.1", found[1], 'E');
    check("string.in.2", found[2], 'M');
    check("string.in.3", found[3], 'U');
    check("string.in.beyond", found[4], 0);
    check("string.in.pointer", static_cast<uint32_t>(to - found), 4);
    static const char text[] = "wherry-probe string.out\n";
    const char* from = text;
    count = sizeof(text) - 1;
    asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(debug_port) : "memory");
    check("string.out.pointer", static_cast<uint32_t>(from - text), sizeof(text) - 1);
}

void check_hpet() {
    check("hpet.vendor", load(hpet) >> 16U, 0x8086);
    const uint32_t femtoseconds = load(hpet + 4);
    check("hpet.period", femtoseconds > 0 && femtoseconds <= 100'000'000U, 1);
    store(hpet + 0x10, 0);
    store(hpet + 0xf0, 0x12345678);
    check("hpet.stands", load(hpet + 0xf0), 0x12345678);
    store(hpet + 0x10, 1);
    const uint32_t first = load(hpet + 0xf0);
    uint32_t next = first;
    for (unsigned i = 0; i < 1000 && next == first; ++i) {
        next = load(hpet + 0xf0);
    }
    check("hpet.counts", next > first, 1);
}

void check_io_apic() {
    constexpr uint32_t select = io_apic;
    constexpr uint32_t window = io_apic + 0x10;
    store(select, 1); // version
    uint32_t value = 0;
    asm volatile("movzbl (%1), %0" : "=r"(value) : "r"(select) : "memory");
    check("io_apic.byte", value, 1);
    check("io_apic.pins", load(window) >> 16U & 0xffU, 23);
    constexpr uint32_t masked = 0x10000;
    store(select, 0x10 + 2 * 5); // pin 5
    store(window, masked | 0x60U);
    check("io_apic.holds", load(window), masked | 0x60U);
    asm volatile("orl %0, (%1)" : : "r"(0x0fU), "r"(window) : "memory", "cc");
    check("io_apic.or", load(window), masked | 0x6fU);
    bool is_equal = false;
    asm volatile("cmpl %2, (%1)" : "=@ccz"(is_equal) : "r"(window), "r"(masked | 0x6fU) : "memory");
    check("io_apic.compare", is_equal ? 1 : 0, 1);
}

void check_memory() {
    const uint32_t before = load(firmware);
    store(firmware, ~before);
    check("firmware.unchanged", load(firmware), before);
    constexpr uint32_t far = 32U << 20U;
    unsigned differ = 0;
    for (uint32_t page = 0; page < 1024; ++page) {
        store(far + page * 4096, page * 2654435761U);
    }
    for (uint32_t page = 0; page < 1024; ++page) {
        differ += load(far + page * 4096) != page * 2654435761U ? 1U : 0U;
    }
    check("memory.pages", differ, 0);
}

void wait_for_interrupts(unsigned wanted, bool halts) {
    const uint32_t start = load(hpet + 0xf0);
    constexpr uint32_t patience = 1'000'000'000; // 10 s of the usual 100 MHz
    while (interrupts < wanted && load(hpet + 0xf0) - start < patience) {
        if (halts) {
            asm volatile("sti; hlt; cli" : : : "memory");
        } else {
            // Long enough for para-virtual KVM to notice; without flags, which on_interrupt loses.
            uint32_t turns = 10000;
            asm volatile("sti; 1: loop 1b; cli" : "+c"(turns) : : "memory");
        }
    }
}

/// The PIT through pin 2 of the I/O APIC, to this CPU.
void check_interrupts() {
    out<uint8_t>(0x21, 0xff); // nothing from the two 8259
    out<uint8_t>(0xa1, 0xff);
    store(local_apic + 0x80, 0);
    store(local_apic + 0xf0, 0x1ff);
    store(io_apic, 0x10 + 2 * 2 + 1);
    store(io_apic + 0x10, load(local_apic + 0x20));
    store(io_apic, 0x10 + 2 * 2);
    store(io_apic + 0x10, 0x50);
    constexpr uint16_t divisor = 11932; // 100 Hz
    out<uint8_t>(0x43, 0x34);
    out<uint8_t>(0x40, divisor & 0xffU);
    out<uint8_t>(0x40, divisor >> 8U);
    wait_for_interrupts(1, false);
    check("interrupt.first", interrupts >= 1, 1);
    if (interrupts >= 1) { // else nothing would end the halt
        const unsigned wanted = interrupts + 5;
        wait_for_interrupts(wanted, true);
        check("interrupt.halted", interrupts >= wanted, 1);
    }
    store(io_apic, 0x10 + 2 * 2);
    store(io_apic + 0x10, 0x10050);
}

} // namespace

extern "C" {

void on_interrupt() {
    interrupts = interrupts + 1;
    store(local_apic + 0xb0, 0);
}

[[noreturn]] void on_exception(const uint32_t* stack) {
    say("wherry-probe exception rip=");
    say_hex(stack[0]);
    say(" next=");
    say_hex(stack[1]);
    say("\n");
    end_vm(3);
}

[[noreturn]] void probe_main() {
    say("wherry-probe begins\n");
    check_ports();
    check_strings();
    check_hpet();
    check_io_apic();
    check_memory();
    check_interrupts();
    say("wherry-probe verdict checks=");
    say_decimal(checks);
    say(" failures=");
    say_decimal(failures);
    say("\n");
    end_vm(failures == 0 ? 0 : 1);
}
}
