// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/channel_place.hpp"
#include "vmm/prompt_thread.hpp"

#include <optional>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

namespace wherry::migrate {

/// The thread of a session and its worker go before the guests, as long as this lives: they have
/// little to do, and while a guest stands still everything waits for them. Made and destroyed on
/// the session's thread.
class PromptSession {
public:
    PromptSession(ChannelThreads threads, boost::asio::thread_pool& worker) {
        if (threads == ChannelThreads::own) {
            session_.emplace();
            boost::asio::post(worker, vmm::answer_promptly);
        }
    }

private:
    std::optional<vmm::PromptThread> session_;
};

} // namespace wherry::migrate
