// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/kvm_vcpu.hpp"
#include "vmm/mshvsim/page_walk.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/ioctl.h>

/// KVM stops in the middle of an instruction, sometimes with its effects on registers done; MSHV
/// stops before it. What is pending is finished with data that changes nothing, and the registers
/// of before are put back. README.md says where this is not exact.
namespace wherry::vmm::mshvsim {
namespace {

constexpr std::size_t longest_instruction = 15;
/// An instruction finished for nothing may stop again for each piece it touches.
constexpr int most_pieces = 64;

/// What `feed` has not is zero.
void fill(std::span<const std::byte> feed, std::span<std::byte> to) {
    const auto fed = feed.first(std::min(feed.size(), to.size()));
    std::ranges::fill(std::ranges::copy(fed, to.begin()).out, to.end(), std::byte{0});
}

/// Does the instruction change nothing but general registers and memory?
bool is_general(const Instruction& at) {
    if (at.map == 1) {
        return (at.opcode >= 0x40 && at.opcode <= 0x4f) || at.opcode == 0xa3 || at.opcode == 0xab ||
               at.opcode == 0xb3 || at.opcode == 0xbb || at.opcode == 0xba ||
               (at.opcode >= 0xb6 && at.opcode <= 0xb7) ||
               (at.opcode >= 0xbe && at.opcode <= 0xbf) || at.opcode == 0xb0 || at.opcode == 0xb1 ||
               at.opcode == 0xc0 || at.opcode == 0xc1 || at.opcode == 0xaf;
    }
    return at.map == 0 && at.opcode != 0x8e && !(at.opcode >= 0xc4 && at.opcode <= 0xc5) &&
           !(at.opcode >= 0xd8 && at.opcode <= 0xdf) && at.opcode != 0xff && at.opcode != 0x62;
}

bool reads_source(const Instruction& at) {
    return at.is_string() &&
           (at.opcode == 0xa4 || at.opcode == 0xa5 || at.opcode == 0xac || at.opcode == 0xad ||
            at.opcode == 0xa6 || at.opcode == 0xa7 || at.opcode == 0x6e || at.opcode == 0x6f);
}

} // namespace

struct KvmVcpu::Everything {
    Registers registers;
    kvm_sregs system;
    DebugRegisters debug;
    PendingEvents events;
    std::vector<std::byte> xsave;
};

KvmVcpu::Everything KvmVcpu::take_everything() {
    Everything all{
        .registers = registers(),
        .system = {},
        .debug = debug(),
        .events = events(),
        .xsave = xsave()};
    formats::invariant(
        ::ioctl(vcpu_.get(), KVM_GET_SREGS, &all.system) == 0, "KVM_GET_SREGS works");
    return all;
}

void KvmVcpu::put_back(const Everything& before) {
    formats::invariant(
        ::ioctl(vcpu_.get(), KVM_SET_SREGS, &before.system) == 0 && set_debug(before.debug) &&
            set_xsave(before.xsave) && set_registers(before.registers) && set_events(before.events),
        "KVM takes back what it gave");
}

void KvmVcpu::finish(std::span<const std::byte> feed) {
    area_->immediate_exit = 1;
    for (int piece = 0; piece < most_pieces; ++piece) {
        if (area_->exit_reason == KVM_EXIT_MMIO && area_->mmio.is_write == 0) {
            fill(feed, std::as_writable_bytes(std::span{area_->mmio.data}));
        } else if (area_->exit_reason == KVM_EXIT_IO && area_->io.direction == KVM_EXIT_IO_IN) {
            auto* const data = reinterpret_cast<std::byte*>(area_) + area_->io.data_offset;
            fill(feed, {data, std::size_t{area_->io.size} * area_->io.count});
        }
        feed = {};
        if (enter() != 0) {
            break;
        }
    }
    area_->immediate_exit = 0;
}

CodeView KvmVcpu::view_of(const Registers& now) {
    return {.registers = now, .system = system()};
}

std::optional<std::uint64_t> KvmVcpu::translate(std::uint64_t linear) {
    const auto at = mshvsim::translate(memory_, system(), linear, {});
    return at.outcome == Translation::Outcome::success ? std::optional{at.gpa} : std::nullopt;
}

std::vector<std::byte> KvmVcpu::bytes_at(std::uint64_t linear, std::size_t count) {
    std::vector<std::byte> bytes(count);
    std::size_t have = 0;
    while (have < count) {
        const auto gpa = translate(linear + have);
        const std::size_t in_page = 4096 - ((linear + have) & 4095U);
        const auto part = std::span{bytes}.subspan(have, std::min(in_page, count - have));
        if (!gpa || !memory_.read(*gpa, part)) {
            break;
        }
        have += part.size();
    }
    bytes.resize(have);
    return bytes;
}

Exit KvmVcpu::describe_port() {
    Exit exit{.kind = Exit::Kind::port};
    exit.port = area_->io.port;
    exit.size = area_->io.size;
    exit.is_write = area_->io.direction == KVM_EXIT_IO_OUT;
    return exit;
}

std::optional<Exit> KvmVcpu::settle_port_in(Exit exit) {
    const Registers before = registers();
    const CodeView view = view_of(before);
    const auto code = bytes_at(view.system.cs.base + before.rip, longest_instruction);
    const auto at = decode(code, view);
    std::vector<std::byte> feed;
    if (at && at->is_string()) {
        exit.is_string = true;
        exit.is_repeated = at->is_repeated;
        // What is in memory now, so that KVM's own round changes nothing; the VMM does them all.
        feed = bytes_at(at->linear, std::size_t{area_->io.size} * area_->io.count);
        if (at->is_repeated) {
            Registers last = before;
            last.rcx = with_count(before.rcx, area_->io.count, at->address_size);
            set_registers(last);
        }
    }
    finish(feed);
    const std::uint64_t moved = registers().rip - before.rip;
    exit.instruction_length = static_cast<std::uint8_t>(
        at                             ? at->length
        : moved <= longest_instruction ? moved
                                       : 0);
    formats::invariant(set_registers(before), "KVM takes back what it gave");
    return exit;
}

std::optional<Exit> KvmVcpu::settle_port_out(Exit exit) {
    const Registers before = registers();
    finish({});
    const Registers after = registers();
    if (after.rip != before.rip) { // KVM steps over it when it is told that it was done
        const CodeView view = view_of(before);
        const auto code = bytes_at(view.system.cs.base + before.rip, longest_instruction);
        const auto at = decode(code, view);
        exit.instruction_length = static_cast<std::uint8_t>(after.rip - before.rip);
        exit.is_string = at && at->is_string();
        exit.is_repeated = exit.is_string && at->is_repeated;
        formats::invariant(set_registers(before), "KVM takes back what it gave");
        return exit;
    }
    const CodeView view = view_of(after);
    const std::uint64_t rip = view.system.cs.base + after.rip;
    const auto undone = undo_port_write(
        view, bytes_before(rip), bytes_at(rip, longest_instruction), exit.port, exit.size);
    if (!undone) {
        return Exit{.kind = Exit::Kind::unsupported};
    }
    exit.instruction_length = undone->instruction.length;
    exit.is_string = undone->instruction.is_string();
    exit.is_repeated = exit.is_string && undone->instruction.is_repeated;
    formats::invariant(set_registers(undone->registers), "KVM takes back what it gave");
    return exit;
}

/// As many of the 15 bytes that end at `linear` as can be read.
std::vector<std::byte> KvmVcpu::bytes_before(std::uint64_t linear) {
    auto bytes = bytes_at(linear - longest_instruction, longest_instruction);
    if (bytes.size() < longest_instruction) {
        const std::uint64_t in_page = linear & 4095U;
        const std::uint64_t count = std::min<std::uint64_t>(in_page, longest_instruction);
        bytes = bytes_at(linear - count, count);
    }
    return bytes;
}

Exit KvmVcpu::settle_memory_read(std::uint64_t gpa, bool is_mapped) {
    Exit exit{.kind = Exit::Kind::memory, .is_mapped = is_mapped, .gpa = gpa};
    const Registers before = registers();
    const CodeView view = view_of(before);
    const auto at = decode(bytes_at(view.system.cs.base + before.rip, longest_instruction), view);
    std::vector<std::byte> feed;
    Registers last = before;
    if (at) {
        exit.access = at->reads_and_writes() ? Access::write : Access::read;
        exit.instruction_length = at->length;
        for (const std::uint64_t linear :
             {reads_source(*at) ? at->source : at->linear, at->linear}) {
            if (!exit.gva && at->has_memory && translate(linear) == gpa) {
                exit.gva = linear;
            }
        }
        if (at->is_string() && at->is_repeated) {
            last.rcx = with_count(before.rcx, 1, at->address_size);
        }
        if (at->map == 0 && (at->opcode == 0xa4 || at->opcode == 0xa5)) {
            feed = bytes_at(at->linear, at->operand_size);
        }
    }
    if (at && is_general(*at)) {
        if (last.rcx != before.rcx) {
            set_registers(last);
        }
        finish(feed);
        formats::invariant(set_registers(before), "KVM takes back what it gave");
    } else {
        const Everything all = take_everything();
        finish(feed);
        put_back(all);
    }
    return exit;
}

Exit KvmVcpu::settle_memory_write(std::uint64_t gpa, bool is_mapped) {
    std::array<std::byte, 8> written{};
    std::memcpy(written.data(), area_->mmio.data, written.size());
    const auto data = std::span{written}.first(std::min<std::size_t>(area_->mmio.len, 8));
    finish({});
    const CodeView view = view_of(registers());
    const std::uint64_t rip = view.system.cs.base + view.registers.rip;
    const MemoryWrite write{
        .is_place = [&](std::uint64_t linear) { return translate(linear) == gpa; }, .data = data};
    const auto undone =
        undo_write(view, bytes_before(rip), bytes_at(rip, longest_instruction), write);
    if (!undone) {
        return {.kind = Exit::Kind::unsupported, .gpa = gpa};
    }
    formats::invariant(set_registers(undone->registers), "KVM takes back what it gave");
    Exit exit{.kind = Exit::Kind::memory, .access = Access::write, .is_mapped = is_mapped};
    exit.instruction_length = undone->instruction.length;
    exit.gpa = gpa;
    exit.gva = undone->instruction.has_memory
                   ? undone->instruction.linear
                   : view.system.ss.base * (view.is_long() ? 0 : 1) + view.registers.rsp;
    return exit;
}

} // namespace wherry::vmm::mshvsim
