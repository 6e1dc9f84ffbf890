// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/image_file.hpp"
#include "vmm/unique_fd.hpp"

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace wherry::migrate {

/// An image that goes to whoever reads the other end. An image that does not become whole has no
/// trailer there. One thread at a time.
class StreamSink final : public ImageSink {
public:
    /// Asked several times a second while a reader is waited for: ends append() as `cancelled`.
    using IsCancelled = std::function<bool()>;
    /// `path` is a FIFO that somebody has open for reading.
    static formats::Result<std::unique_ptr<StreamSink>>
    open(const std::filesystem::path& path, IsCancelled is_cancelled);

    void expect(formats::Bytes /*size*/) override {}
    /// Waits for the reader for as long as it takes.
    formats::Status append(std::span<const std::byte> bytes) override;
    void interrupt() noexcept override { is_interrupted_ = true; }
    [[nodiscard]] formats::Bytes written() const noexcept override { return written_; }
    /// How the reader knows that it has all of it is its trailer.
    formats::Status publish() override;
    [[nodiscard]] std::string name() const override { return "the stream"; }

private:
    StreamSink(vmm::UniqueFd file, IsCancelled is_cancelled);
    formats::Status wait_for_reader();

    vmm::UniqueFd file_; ///< does not block
    IsCancelled is_cancelled_;
    std::atomic<bool> is_interrupted_ = false;
    formats::Bytes written_;
};

} // namespace wherry::migrate
