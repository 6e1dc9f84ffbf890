// SPDX-License-Identifier: Apache-2.0
#include "formats/zstd_frame.hpp"

#include <new>

#include <fmt/format.h>
#include <zstd.h>

namespace wherry::formats {

namespace {

/// zstd refuses only parameters that do not exist, and buffers that are too small.
std::size_t must_do(std::size_t done) {
    invariant(ZSTD_isError(done) == 0, "zstd compresses whatever it is given");
    return done;
}

} // namespace

void ZstdCompressor::Release::operator()(ZSTD_CCtx_s* context) const noexcept {
    ::ZSTD_freeCCtx(context);
}

ZstdCompressor::ZstdCompressor(int level) : context_{::ZSTD_createCCtx()} {
    if (!context_) {
        throw std::bad_alloc{};
    }
    invariant(level >= zstd_lowest_level && level <= zstd_highest_level, "a level that zstd has");
    must_do(::ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level));
}

std::span<const std::byte> ZstdCompressor::compress(std::span<const std::byte> contents) {
    frame_.resize(::ZSTD_compressBound(contents.size()));
    const std::size_t length = must_do(::ZSTD_compress2(
        context_.get(), frame_.data(), frame_.size(), contents.data(), contents.size()));
    return std::span{frame_}.first(length);
}

Result<std::vector<std::byte>> decompress_zstd(std::span<const std::byte> frame, Bytes limit) {
    const auto size = ::ZSTD_getFrameContentSize(frame.data(), frame.size());
    if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN) {
        return fail(ErrorCode::corrupted, "it is not a zstd frame that says its size");
    }
    if (size > limit.value()) {
        return fail(
            ErrorCode::corrupted,
            fmt::format(
                "its zstd frame says that it holds {} bytes, more than the limit of {}",
                size,
                limit.value()));
    }
    if (::ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size()) {
        return fail(ErrorCode::corrupted, "it is not one whole zstd frame");
    }
    std::vector<std::byte> contents(size);
    if (::ZSTD_decompress(contents.data(), contents.size(), frame.data(), frame.size()) != size) {
        return fail(ErrorCode::corrupted, "its zstd frame is damaged");
    }
    return contents;
}

} // namespace wherry::formats
