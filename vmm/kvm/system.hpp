// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/unique_fd.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace wherry::vmm::kvm {

/// An ioctl that takes a pointer (or nothing). The error names the call.
template <typename Argument>
formats::Result<int> call(int fd, unsigned long request, Argument* argument, std::string_view name);
formats::Result<int>
call_untyped(int fd, unsigned long request, void* argument, std::string_view name);
/// An ioctl whose argument is a number.
formats::Result<int>
call_number(int fd, unsigned long request, std::uint64_t argument, std::string_view name);

/// An open /dev/kvm that has all that wherry cannot do without.
class System {
public:
    /// The error says what to do: no device, no permission, too old a kernel, a missing feature.
    static formats::Result<System> open();

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// 0: absent. Some extensions answer with a size or a set of flags.
    [[nodiscard]] int extension(unsigned long number) const noexcept;
    [[nodiscard]] std::size_t run_area_size() const noexcept { return run_area_size_; }
    [[nodiscard]] formats::Result<UniqueFd> create_vm() const;
    /// The MSRs that make up a guest's state, MTRRs included (the kernel omits those).
    [[nodiscard]] formats::Result<std::vector<std::uint32_t>> msr_indices() const;

private:
    UniqueFd fd_;
    std::size_t run_area_size_ = 0;
};

template <typename Argument>
formats::Result<int>
call(int fd, unsigned long request, Argument* argument, std::string_view name) {
    return call_untyped(fd, request, argument, name);
}

} // namespace wherry::vmm::kvm
