// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/messages.hpp"
#include "vmm/mshv/abi/properties.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/register_page.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshv/abi/vp_state.hpp"
#include "vmm/mshvsim/simulator.hpp"

#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace mshvsim_test {

namespace abi = wherry::vmm::mshv::abi;
using wherry::vmm::mshvsim::EngineChoice;
using wherry::vmm::mshvsim::Personality;

/// Pages of this process for a guest, shared and not touched.
class HostMemory {
public:
    explicit HostMemory(std::size_t pages);
    HostMemory(const HostMemory&) = delete;
    HostMemory& operator=(const HostMemory&) = delete;
    ~HostMemory();
    [[nodiscard]] std::byte* at(std::size_t offset = 0) const { return start_ + offset; }
    void put(std::size_t offset, std::initializer_list<int> bytes) const;
    [[nodiscard]] std::size_t resident_pages() const;
    [[nodiscard]] std::size_t size() const { return size_; }

private:
    std::size_t size_;
    std::byte* start_;
};

/// A client of the simulator: a partition and VP 0.
class Client {
public:
    /// Nothing, and a line on stdout that says that the case was skipped and why, where the host
    /// has no engine. MSHVSIM_TEST_ENGINE=soft: the soft engine where none is named.
    static std::unique_ptr<Client> open(
        std::string_view test,
        Personality personality = Personality::v7_2,
        std::optional<EngineChoice> engine = std::nullopt,
        std::uint64_t synthetic_features = 0);
    Client(std::unique_ptr<wherry::vmm::mshv::Syscalls> calls, std::uint64_t synthetic_features);
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client();

    wherry::vmm::mshv::Syscalls& calls() { return *calls_; }
    int device = -1, partition = -1, vp = -1;
    abi::RegisterPage* page = nullptr;

    /// The status of the hypervisor; `done` is reps completed, `error` the ioctl's result.
    struct Answer {
        std::uint16_t status, done;
        int error;
    };
    Answer hypercall(
        int descriptor,
        std::uint16_t code,
        std::uint16_t reps,
        std::span<const std::byte> input,
        std::span<std::byte> output = {});
    Answer set_property(std::uint32_t code, std::uint64_t value);
    std::uint64_t property(std::uint32_t code);
    Answer set(std::initializer_list<std::pair<std::uint32_t, abi::RegisterValue>> values);
    Answer set(std::uint32_t name, std::uint64_t value) { return set({{name, {value, 0}}}); }
    abi::RegisterValue get(std::uint32_t name);
    int map(const HostMemory& memory, std::uint64_t gfn, std::uint8_t flags = 3);
    int unmap(const HostMemory& memory, std::uint64_t gfn);
    int run(abi::messages::Message& message);
    /// Real mode at 0:`ip`.
    void start_at(std::uint16_t ip);
    /// Access bitmap, one element a page.
    std::vector<bool>
    access(std::uint8_t type, std::uint8_t op, std::uint64_t gfn, std::uint64_t n);

private:
    std::unique_ptr<wherry::vmm::mshv::Syscalls> calls_;
};

/// The bytes of a value.
template <typename Value>
std::span<const std::byte> bytes(const Value& value) {
    return std::as_bytes(std::span{&value, 1});
}
template <typename Value>
std::span<std::byte> room(Value& value) {
    return std::as_writable_bytes(std::span{&value, 1});
}

} // namespace mshvsim_test
