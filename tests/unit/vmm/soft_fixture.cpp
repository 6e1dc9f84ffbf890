// SPDX-License-Identifier: Apache-2.0
#include "soft_fixture.hpp"

#include "vmm/soft_module_abi.hpp"

#include <array>
#include <cstring>
#include <filesystem>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <dlfcn.h>

extern "C" {
extern const std::byte soft_guest_entry[], soft_guest_entry_end[];
extern const std::byte soft_guest_counter[], soft_guest_counter_end[];
extern const std::byte soft_guest_near_halt[], soft_guest_near_halt_end[];
extern const std::byte soft_guest_halt[], soft_guest_halt_end[];
extern const std::byte soft_guest_devices[], soft_guest_devices_end[];
extern const std::byte soft_guest_state[], soft_guest_state_end[];
extern const std::byte soft_guest_writer[], soft_guest_writer_end[];
extern const std::byte soft_guest_clock[], soft_guest_clock_end[];
extern const std::byte soft_guest_remapper[], soft_guest_remapper_end[];
extern const std::byte soft_guest_features[], soft_guest_features_end[];
extern const std::byte soft_guest_divider[], soft_guest_divider_end[];
}

namespace wherry::vmm::soft_test {

using formats::Gpa;

const GuestCode counter{{soft_guest_counter, soft_guest_counter_end}};
const GuestCode near_halt{{soft_guest_near_halt, soft_guest_near_halt_end}};
const GuestCode halt{{soft_guest_halt, soft_guest_halt_end}};
const GuestCode devices{{soft_guest_devices, soft_guest_devices_end}};
const GuestCode state{{soft_guest_state, soft_guest_state_end}};
const GuestCode writer{{soft_guest_writer, soft_guest_writer_end}};
const GuestCode clock{{soft_guest_clock, soft_guest_clock_end}};
const GuestCode remapper{{soft_guest_remapper, soft_guest_remapper_end}};
const GuestCode features{{soft_guest_features, soft_guest_features_end}};
const GuestCode divider{{soft_guest_divider, soft_guest_divider_end}};

namespace {

std::uint64_t number_of(std::span<const std::byte> data) {
    std::uint64_t value = 0;
    std::memcpy(&value, data.data(), data.size());
    return value;
}

struct Module {
    OpenSoftPartition* open = nullptr;
    std::string why_not;
};

/// The module stands beside the test program, as it does beside the product.
Module load_module() {
    const auto path =
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / soft_module_file;
    void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        return {.open = nullptr, .why_not = ::dlerror()};
    }
    auto* const abi = reinterpret_cast<SoftModuleAbi*>(::dlsym(handle, soft_module_abi_symbol));
    auto* const open =
        reinterpret_cast<OpenSoftPartition*>(::dlsym(handle, soft_module_open_symbol));
    REQUIRE((abi != nullptr));
    REQUIRE((open != nullptr));
    REQUIRE(abi() == soft_module_abi);
    return {.open = open, .why_not = {}};
}

const Module& module() {
    static const Module loaded = load_module();
    return loaded;
}

} // namespace

void Devices::port_read(std::uint16_t port, std::span<std::byte> data) {
    std::uint64_t value = 0;
    if (port == 0x10) {
        value = sequence;
    }
    if (port == 0x13) {
        if (on_question) {
            on_question();
        }
        value = may_go_on ? 1 : 0;
    }
    std::memcpy(data.data(), &value, data.size());
}

void Devices::port_write(std::uint16_t port, std::span<const std::byte> data) {
    const auto value = static_cast<std::uint32_t>(number_of(data));
    if (port == 0x10) {
        errors += value == sequence + 1 ? 0U : 1U;
        sequence = value;
    } else if (port == 0x11) {
        results.push_back(value);
    } else if (port == 0x14) {
        text += static_cast<char>(value);
    } else {
        ++errors;
    }
}

void Devices::memory_read(Gpa at, std::span<std::byte> data) {
    // Byte n of the device page reads as n.
    for (std::size_t i = 0; i < data.size(); ++i) {
        data[i] = static_cast<std::byte>(at.value() + i);
    }
}

void Devices::memory_write(Gpa at, std::span<const std::byte> data) {
    stores.emplace_back(at.value(), number_of(data));
}

void Devices::end_of_interrupt(std::uint8_t /*vector*/) {
    ++errors;
}

std::uint64_t SoftGuest::word(std::uint64_t at) const {
    std::array<std::byte, 8> bytes{};
    REQUIRE(memory->read(Gpa{at}, bytes).has_value());
    return number_of(bytes);
}

void SoftGuest::set_word(std::uint64_t at, std::uint64_t value) {
    REQUIRE(memory->write(Gpa{at}, std::as_bytes(std::span{&value, 1})).has_value());
}

std::optional<SoftGuest> make_guest(const char* test) {
    if (module().open == nullptr) {
        fmt::print("SKIPPED: {}: {}\n", test, module().why_not);
        return std::nullopt;
    }
    const PartitionOptions options{.vcpus = 1};
    std::array<char, 512> text{};
    SoftGuest guest;
    guest.partition.reset(module().open(&options, text.data(), text.size()));
    REQUIRE_MESSAGE(guest.partition != nullptr, text.data());
    auto memory = GuestMemory::create(formats::Bytes{64U << 20U});
    REQUIRE(memory.has_value());
    guest.memory = std::make_unique<GuestMemory>(std::move(*memory));
    REQUIRE(guest.partition->map_memory(*guest.memory).has_value());
    auto vcpu = guest.partition->create_vcpu(0);
    REQUIRE_MESSAGE(vcpu.has_value(), (vcpu ? "" : vcpu.error().text()));
    guest.vcpu = std::move(*vcpu);
    return guest;
}

std::optional<SoftGuest> boot_guest(const char* test, const GuestCode& code) {
    auto guest = make_guest(test);
    if (!guest) {
        return guest;
    }
    REQUIRE(
        guest->memory->write(Gpa{0x1000}, {soft_guest_entry, soft_guest_entry_end}).has_value());
    REQUIRE(guest->memory->write(Gpa{0x2000}, code.body).has_value());
    auto vcpu_state = guest->vcpu->save();
    REQUIRE(vcpu_state.has_value());
    vcpu_state->registers.rip = 0x1000;
    const auto restored = guest->vcpu->restore(*vcpu_state);
    REQUIRE_MESSAGE(restored.has_value(), (restored ? "" : restored.error().text()));
    return guest;
}

void copy_memory(const SoftGuest& from, SoftGuest& to) {
    const auto runs = from.memory->populated();
    REQUIRE(runs.has_value());
    std::vector<std::byte> piece;
    for (const formats::PageRange& run : *runs) {
        piece.resize(formats::bytes_of(run.count()).value());
        REQUIRE(from.memory->copy_pages(run, piece).has_value());
        REQUIRE(to.memory->write(formats::gpa_of(run.first()), piece).has_value());
    }
}

std::optional<std::string> refusal_of(const PartitionOptions& options) {
    if (module().open == nullptr) {
        return module().why_not;
    }
    std::array<char, 512> text{};
    const std::unique_ptr<Partition> opened{module().open(&options, text.data(), text.size())};
    return opened ? std::nullopt : std::optional<std::string>{text.data()};
}

} // namespace wherry::vmm::soft_test
