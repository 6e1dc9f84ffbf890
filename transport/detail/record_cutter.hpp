// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/byte_stream.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

namespace wherry::transport::detail {

/// The most that one TLS record carries.
inline constexpr std::size_t record_size = 16384;
using RecordBuffer = std::array<std::byte, record_size>;

/// Cuts a gather list into full records, the last one excepted: large parts are lent as they are,
/// small neighbours are copied together into `staging`. A record is valid until the next one.
class RecordCutter {
public:
    RecordCutter(Gather parts, RecordBuffer& staging) : parts_{parts}, staging_{staging} {}

    /// The next record; empty at the end.
    std::span<const std::byte> next() {
        skip_empty();
        if (parts_.empty()) {
            return {};
        }
        const auto rest = parts_.front().subspan(at_);
        if (rest.size() >= record_size || parts_.size() == 1) {
            const auto record = rest.first(std::min(rest.size(), record_size));
            at_ += record.size();
            return record;
        }
        std::size_t filled = 0;
        while (!parts_.empty() && filled < record_size) {
            const auto part = parts_.front().subspan(at_);
            const auto taken = part.first(std::min(part.size(), record_size - filled));
            std::ranges::copy(taken, staging_.begin() + static_cast<std::ptrdiff_t>(filled));
            filled += taken.size();
            at_ += taken.size();
            skip_empty();
        }
        return std::span{staging_}.first(filled);
    }

private:
    void skip_empty() {
        while (!parts_.empty() && at_ == parts_.front().size()) {
            parts_ = parts_.subspan(1);
            at_ = 0;
        }
    }

    Gather parts_;
    RecordBuffer& staging_;
    std::size_t at_ = 0; ///< within the first part
};

} // namespace wherry::transport::detail
