// SPDX-License-Identifier: Apache-2.0
#include "tests/guests/cpu.hpp"
#include "tests/guests/serial.hpp"
#include "tests/guests/text.hpp"

namespace wherry::guest {

struct ExceptionFrame {
    std::uint64_t vector;
    std::uint64_t error;
    std::uint64_t rip;
    std::uint64_t cs;
    std::uint64_t rflags;
    std::uint64_t rsp;
    std::uint64_t ss;
};

void end_vm(std::uint8_t code) noexcept {
    write_port(0x501, code);
    while (true) {
        relax();
    }
}

/// From the stubs in ring0.S, in ring 0: no exception is ever expected.
extern "C" [[noreturn]] void
report_exception(const ExceptionFrame* frame, std::uint64_t fault_address) noexcept {
    Line line("fatal exception");
    line.field("vector", frame->vector).hex_field("error", frame->error);
    line.hex_field("rip", frame->rip).hex_field("cs", frame->cs).hex_field("rsp", frame->rsp);
    line.hex_field("rflags", frame->rflags).hex_field("cr2", fault_address);
    serial::write_now("\n");
    serial::write_now(line.finish());
    end_vm(exit_exception);
}

} // namespace wherry::guest
