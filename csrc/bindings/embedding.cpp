#include "cpu/embedding.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(embedding) {
  m.def("embedding", [](Object weight, Object index, Object out) {
    const EmbeddingArgs args{view(weight), view(index), view(out, true)};
    return launch(embedding_forward, args);
  });
  m.def("embedding_backward", [](Object grad, Object index, Object source, Object scale, Object out, int64_t padding,
                                 bool by_frequency) {
    const EmbeddingGradArgs args{view(grad), view(index), optional_view(source), optional_view(scale), view(out, true), padding,
                                 by_frequency};
    launch(embedding_backward, args);
  });
  m.def("embedding_bag", [](int mode, Object weight, Object index, Object offsets, Object scale, int64_t padding, Object out,
                            Object largest) {
    PYDL_CHECK(mode >= 0 && mode <= static_cast<int>(Bag::max), "unknown mode");
    const EmbeddingBagArgs args{static_cast<Bag>(mode), view(weight), view(index), view(offsets), optional_view(scale), padding,
                                view(out, true), optional_view(largest, true)};
    return launch(embedding_bag_forward, args);
  });
  m.def("embedding_max_backward", [](Object grad, Object largest, Object index, Object out) {
    const EmbeddingMaxGradArgs args{view(grad), view(largest), view(index), view(out, true)};
    launch(embedding_max_backward, args);
  });
  m.def("embedding_dots", [](Object grad, Object weight, Object index, Object source, Object out, int64_t padding) {
    const EmbeddingDotArgs args{view(grad), view(weight), view(index), view(source), view(out, true), padding};
    launch(embedding_dots, args);
  });
}

}  // namespace pydl
