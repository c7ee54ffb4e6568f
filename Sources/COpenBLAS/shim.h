// The BLAS and LAPACK interfaces of Debian's libopenblas-dev and liblapacke-dev.
#include <cblas.h>
#include <lapacke.h>
