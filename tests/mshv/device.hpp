// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

/// open, ioctl and mmap on /dev/mshv, and nothing that knows more than that.
namespace wherry::conformance {

/// MSHV_DEVICE, or /dev/mshv.
std::string device_path();

class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int number) : number_{number} {}
    Descriptor(Descriptor&& other) noexcept : number_{std::exchange(other.number_, -1)} {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() { close(); }
    void close() noexcept;
    /// Leaves it open.
    [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }
    [[nodiscard]] int get() const noexcept { return number_; }
    [[nodiscard]] bool is_open() const noexcept { return number_ >= 0; }

private:
    int number_ = -1;
};

/// "ok", or the name of errno: "EINVAL".
std::string control(const Descriptor& on, std::uint32_t request, void* argument = nullptr);
/// For ioctls that return a descriptor. `outcome` as of control().
struct Opened {
    Descriptor descriptor;
    std::string outcome;
};
Opened control_open(const Descriptor& on, std::uint32_t request, void* argument);
Opened open_device();
[[nodiscard]] bool closes_on_exec(const Descriptor& descriptor);

/// A mapping of whole pages; anonymous, shared and not reserved without a descriptor.
class Mapping {
public:
    explicit Mapping(std::size_t size);
    Mapping(const Descriptor& of, std::size_t size, std::uint64_t offset);
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping();
    [[nodiscard]] const std::string& outcome() const noexcept { return outcome_; }
    [[nodiscard]] std::byte* data() const noexcept { return at_; }
    [[nodiscard]] std::uint64_t address() const noexcept;
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

private:
    void map(int descriptor, int flags, std::uint64_t offset);
    std::byte* at_ = nullptr;
    std::size_t size_;
    std::string outcome_ = "ok";
};

/// An address as ioctl structures hold it, and one that no process has.
std::uint64_t address_of(const void* pointer);
inline constexpr std::uint64_t bad_address = 0xdead'0000'0000'0000;
void* bad_pointer();

/// A case that the device has told it cannot have, and how: "SKIPPED: case: reason".
void skipped(std::string_view test, std::string_view reason);
/// What was seen where the sheet does not say what must be: "SAW: topic: what".
void saw(std::string_view topic, std::string_view what);

} // namespace wherry::conformance
