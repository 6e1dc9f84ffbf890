// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/register_window.hpp"

#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/registers.hpp"

#include <array>
#include <vector>

namespace wherry::vmm::mshv {

namespace names = abi::registers;
namespace dirty = abi::register_page_dirty;
using formats::ErrorCode;
using formats::fail;
using formats::Status;

namespace {

constexpr std::size_t general_count = 16;
/// After the general registers, RIP and RFLAGS, which have consecutive names from RAX.
constexpr auto other_names = std::to_array<std::uint32_t>(
    {names::es,
     names::cs,
     names::ss,
     names::ds,
     names::fs,
     names::gs,
     names::cr0,
     names::cr3,
     names::cr4,
     names::efer});

NamedValue named(std::uint32_t name, std::uint64_t value) {
    return {name, {.low = value, .high = 0}};
}

/// The page as loading it by hypercall would give it.
formats::Result<abi::RegisterPage> read_as_page(const VpRegisters& registers) {
    std::vector<std::uint32_t> wanted;
    for (std::uint32_t i = 0; i < general_count + 2; ++i) {
        wanted.push_back(names::rax + i);
    }
    wanted.insert(wanted.end(), other_names.begin(), other_names.end());
    const auto values = registers.read(wanted);
    if (!values) {
        return fail(values.error());
    }
    abi::RegisterPage page;
    for (std::size_t i = 0; i < general_count; ++i) {
        page.general[i] = (*values)[i].low;
    }
    auto next = values->begin() + general_count;
    page.rip = (next++)->low;
    page.rflags = (next++)->low;
    for (auto* const segment : {&page.es, &page.cs, &page.ss, &page.ds, &page.fs, &page.gs}) {
        *segment = abi::read_as<abi::SegmentValue>(*next++);
    }
    for (auto* const control : {&page.cr0, &page.cr3, &page.cr4, &page.efer}) {
        *control = (next++)->low;
    }
    return page;
}

} // namespace

abi::RegisterPage* RegisterWindow::page() const noexcept {
    return static_cast<abi::RegisterPage*>(page_.at());
}

bool RegisterWindow::is_usable() const noexcept {
    return page() != nullptr && page()->is_valid != 0;
}

Status RegisterWindow::load(x86::CpuState& into) const {
    abi::RegisterPage from;
    if (is_usable()) {
        from = *page();
    } else {
        const auto read = read_as_page(registers_);
        if (!read) {
            return fail(read.error());
        }
        from = *read;
    }
    set_general(into.registers, from.general);
    into.registers.rip = from.rip;
    into.registers.rflags = from.rflags;
    into.system.es = canonical(from.es);
    into.system.cs = canonical(from.cs);
    into.system.ss = canonical(from.ss);
    into.system.ds = canonical(from.ds);
    into.system.fs = canonical(from.fs);
    into.system.gs = canonical(from.gs);
    into.system.cr0 = from.cr0;
    into.system.cr3 = from.cr3;
    into.system.cr4 = from.cr4;
    into.system.efer = from.efer;
    return {};
}

Status RegisterWindow::store(const Registers& registers) {
    const auto general = general_of(registers);
    if (is_usable()) {
        page()->general = general;
        page()->rip = registers.rip;
        page()->rflags = registers.rflags;
        page()->dirty |= dirty::general | dirty::rip | dirty::rflags;
        return {};
    }
    std::vector<NamedValue> values;
    for (std::uint32_t i = 0; i < general.size(); ++i) {
        values.push_back(named(names::rax + i, general[i]));
    }
    values.push_back(named(names::rip, registers.rip));
    values.push_back(named(names::rflags, registers.rflags));
    return registers_.write(values);
}

Status RegisterWindow::store_rip(std::uint64_t rip) {
    if (is_usable()) {
        page()->rip = rip;
        page()->dirty |= dirty::rip;
        return {};
    }
    const auto value = named(names::rip, rip);
    return registers_.write(std::span{&value, 1});
}

Status RegisterWindow::store_rax_and_rip(std::uint64_t rax, std::uint64_t rip) {
    if (is_usable()) {
        page()->general[0] = rax;
        page()->rip = rip;
        page()->dirty |= dirty::general | dirty::rip;
        return {};
    }
    const std::array values{named(names::rax, rax), named(names::rip, rip)};
    return registers_.write(values);
}

Status RegisterWindow::flush() {
    if (page() == nullptr || page()->dirty == 0) {
        return {};
    }
    std::vector<NamedValue> values;
    if ((page()->dirty & dirty::general) != 0) {
        for (std::uint32_t i = 0; i < general_count; ++i) {
            values.push_back(named(names::rax + i, page()->general[i]));
        }
    }
    if ((page()->dirty & dirty::rip) != 0) {
        values.push_back(named(names::rip, page()->rip));
    }
    if ((page()->dirty & dirty::rflags) != 0) {
        values.push_back(named(names::rflags, page()->rflags));
    }
    if (auto written = registers_.write(values); !written) {
        return written;
    }
    page()->dirty = 0; // no other class is ever marked here
    return {};
}

std::uint64_t RegisterWindow::interrupt_vectors() const noexcept {
    return page() == nullptr ? 0 : page()->interrupt_vectors;
}

Status RegisterWindow::set_interrupt_vectors(std::uint64_t vectors) {
    if (page() != nullptr) {
        page()->interrupt_vectors = vectors;
        return {};
    }
    return vectors == 0 ? Status{}
                        : fail(
                              ErrorCode::unsupported,
                              "interrupts that no APIC has taken up: this host gives no register "
                              "page to put them in");
}

} // namespace wherry::vmm::mshv
