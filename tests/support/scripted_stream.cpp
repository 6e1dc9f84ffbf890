// SPDX-License-Identifier: Apache-2.0
#include "tests/support/scripted_stream.hpp"

#include <utility>
#include <vector>

namespace wherry::tests {

using transport::Task;

ScriptedStream::ScriptedStream(
    std::unique_ptr<transport::ByteStream> inner, std::shared_ptr<Script> script)
    : inner_{std::move(inner)},
      script_{std::move(script)},
      never_{inner_->executor()} {
    script_->streams.push_back(this);
}

ScriptedStream::~ScriptedStream() {
    std::erase(script_->streams, this);
}

void Script::cut() {
    for (ScriptedStream* stream : streams) {
        stream->close();
    }
}

Task<ScriptedStream::Next> ScriptedStream::step() {
    if (script_->on_step) {
        script_->on_step();
    }
    if (script_->steps++ == script_->at) {
        script_->fired = true;
        switch (script_->fault) {
        case Fault::cut:
            inner_->close();
            break;
        case Fault::stall:
            stalled_ = true;
            break;
        case Fault::corrupt:
            co_return Next::corrupt;
        case Fault::call:
            script_->action();
            break;
        }
    }
    // Once silent, silent in both directions for good.
    while (stalled_) {
        auto waited = co_await never_.wait();
        if (!waited) {
            co_return formats::fail(std::move(waited).error());
        }
    }
    co_return Next::go_on;
}

Task<std::size_t> ScriptedStream::read_some(std::span<std::byte> into) {
    auto next = co_await step();
    if (!next) {
        co_return formats::fail(std::move(next).error());
    }
    auto got = co_await inner_->read_some(into);
    if (got && *got > 0 && *next == Next::corrupt) {
        into[*got / 2] ^= std::byte{0x10};
    }
    co_return got;
}

Task<void> ScriptedStream::read_exactly(std::span<std::byte> into) {
    auto next = co_await step();
    if (!next) {
        co_return formats::fail(std::move(next).error());
    }
    auto got = co_await inner_->read_exactly(into);
    if (got && *next == Next::corrupt) {
        into[into.size() / 2] ^= std::byte{0x10};
    }
    co_return got;
}

Task<void> ScriptedStream::write_all(transport::Gather parts) {
    auto next = co_await step();
    if (!next) {
        co_return formats::fail(std::move(next).error());
    }
    if (*next == Next::go_on) {
        co_return co_await inner_->write_all(parts);
    }
    std::vector<std::byte> bytes;
    for (const auto part : parts) {
        bytes.insert(bytes.end(), part.begin(), part.end());
    }
    bytes[bytes.size() / 2] ^= std::byte{0x10};
    const std::span<const std::byte> whole = bytes;
    co_return co_await inner_->write_all(whole);
}

Task<void> ScriptedStream::shut_down() {
    if (stalled_) {
        co_await never_.wait();
    }
    co_return co_await inner_->shut_down();
}

formats::Status ScriptedStream::rebind(transport::Executor executor) {
    return inner_->rebind(std::move(executor));
}

void ScriptedStream::close() {
    inner_->close();
}

} // namespace wherry::tests
