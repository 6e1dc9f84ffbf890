// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/unique_fd.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace wherry::vmm {

/// A userfaultfd over shared memory of this process, which catches the first touch of a page by
/// anybody, the kernel on our behalf included. Addresses and sizes are whole pages.
class Userfault {
public:
    /// `permission` or `unsupported`, naming the remedy, where this host has none of that kind.
    static formats::Result<Userfault> open();
    /// Would open() work?
    static formats::Status check();

    [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }

    /// From here on each page of the range that is not in the page table is a fault of ours.
    formats::Status watch(std::byte* at, formats::Bytes size) const;
    /// Undone; whoever waits there goes on.
    formats::Status unwatch(std::byte* at, formats::Bytes size) const;

    struct Outcome {
        formats::Bytes done; ///< from the start of the range
        int error = 0;       ///< what kept it from the page after these; 0: all done
    };
    /// Puts pages that the file has into the page table and wakes who waits for them. EEXIST: it
    /// is in the page table already; EFAULT: the file has a hole there.
    [[nodiscard]] Outcome map(std::byte* at, formats::Bytes size) const noexcept;
    /// The same with new pages of zeros. EEXIST: the file has that page.
    [[nodiscard]] Outcome map_zeros(std::byte* at, formats::Bytes size) const noexcept;
    /// Who waits for the pages looks again.
    void wake(std::byte* at, formats::Bytes size) const noexcept;

    struct Fault {
        std::byte* page;
        bool is_in_file; ///< the file had the page: map() is the answer, else map_zeros()
    };
    /// Those that have happened, as many as there is room for; empty: none.
    [[nodiscard]] std::span<const Fault> take(std::span<Fault> room) const noexcept;

private:
    explicit Userfault(UniqueFd fd) : fd_{std::move(fd)} {}
    UniqueFd fd_;
};

} // namespace wherry::vmm
