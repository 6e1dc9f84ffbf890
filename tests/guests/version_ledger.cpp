// SPDX-License-Identifier: Apache-2.0
#include "tests/guests/version_ledger.hpp"

#include "tests/guests/cpu.hpp"

namespace wherry::guest {

void VersionLedger::start(
    std::uint32_t* versions, std::uint64_t* sums, std::uint32_t first, std::uint32_t end) noexcept {
    versions_ = versions;
    sums_ = sums;
    first_ = first;
    end_ = end;
    next_block_ = first / block_pages;
    write_witness(0);
}

std::uint32_t VersionLedger::advance(std::uint32_t index) noexcept {
    ++sums_[index / block_pages];
    ++total_;
    // Read, add, write: a memory total that went stale in between stays apart from the register.
    write_witness(read_witness() + 1);
    return ++versions_[index];
}

VersionLedger::Finding VersionLedger::check_witness() noexcept {
    const auto witness = read_witness();
    if (witness == total_) {
        return {};
    }
    const Finding finding{"register", 0, witness, total_};
    write_witness(total_); // counted once; later losses show again
    return finding;
}

VersionLedger::Finding VersionLedger::check_next_block() noexcept {
    if (first_ == end_) {
        return {};
    }
    if (next_block_ * block_pages >= end_) {
        next_block_ = first_ / block_pages;
        ++rounds_;
        return check_sums();
    }
    const auto block = next_block_++;
    const auto sum = sum_block(block);
    if (sum == sums_[block]) {
        return {};
    }
    const Finding finding{"table", block, sums_[block], sum};
    total_ += sum - sums_[block];
    write_witness(read_witness() + (sum - sums_[block]));
    sums_[block] = sum;
    return finding;
}

VersionLedger::Finding VersionLedger::check_sums() noexcept {
    std::uint64_t sum = 0;
    for (auto block = first_ / block_pages; block * block_pages < end_; ++block) {
        sum += sums_[block];
    }
    if (sum == total_) {
        return {};
    }
    const Finding finding{"ledger", 0, total_, sum};
    write_witness(read_witness() + (sum - total_));
    total_ = sum;
    return finding;
}

std::uint64_t VersionLedger::sum_block(std::uint32_t block) const noexcept {
    asm volatile("" : : : "memory");
    const auto begin = block * block_pages;
    const auto end = begin + block_pages < end_ ? begin + block_pages : end_;
    std::uint64_t sum = 0;
    for (auto index = begin; index < end; ++index) {
        sum += versions_[index];
    }
    return sum;
}

void VersionLedger::forget_last(std::uint32_t index, Depth depth) noexcept {
    --versions_[index];
    if (depth == Depth::table) {
        return;
    }
    --sums_[index / block_pages];
    if (depth == Depth::total) {
        --total_;
    }
}

} // namespace wherry::guest
