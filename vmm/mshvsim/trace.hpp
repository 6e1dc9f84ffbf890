// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/unique_fd.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace wherry::vmm::mshvsim {

/// A call on one of the device's descriptors, after it was made.
struct TracedCall {
    int descriptor = -1;
    std::uint64_t partition = 0; ///< 0: the device's
    std::optional<std::uint32_t> vp;
    std::uint64_t request = 0, argument = 0;
    int result = 0;
};

/// Writes one line for each call, whole, in the order in which calls end. Thread-safe.
class Trace {
public:
    static formats::Result<std::unique_ptr<Trace>> open(const std::string& path);
    explicit Trace(UniqueFd file) : file_{std::move(file)} {}

    void opened(int descriptor);
    void ioctl(const TracedCall& call);

private:
    void write(std::string line);
    UniqueFd file_;
};

/// The line of a call, without time and thread; reads what the arguments point to.
std::string describe(const TracedCall& call);

/// Names as the sheet and Linux have them; a number in hexadecimal where there is none.
std::string name_of_hypercall(std::uint16_t code);
std::string name_of_property(std::uint32_t code);
std::string name_of_register(std::uint32_t name);
std::string name_of_message(std::uint32_t type);

} // namespace wherry::vmm::mshvsim
