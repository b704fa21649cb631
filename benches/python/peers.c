/* The loops that the benches compare with, compiled by them with the system's C compiler. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The published listing's routine, re-created: one channel, positions already turned and culled,
 * index scaled by `scale` (0.99 in the listing), sums in single precision. */
void listing_histogram(const double *x, const double *y, const double *weight, long n, double low,
                       double high, double scale, int npix, float *image)
{
    for (long i = 0; i < n; i++) {
        int ix = (int)((x[i] - low) / (high - low) * scale * npix);
        int iy = (int)((y[i] - low) / (high - low) * scale * npix);
        image[ix * npix + iy] += weight[i];
    }
}

/* Everything in one loop as one would write it by hand: T and K from the fields of a cell, minimum
 * image, rotation, cull, three sums in double precision; an image per thread, added at the end. */
void fused_project(const double *position, const float *energy, const float *electrons,
                   const float *density, const float *mass, long n, const double *center, double box,
                   const double *r, double half, int npix, const double *factors, int threads,
                   double *image)
{
    long size = 3L * npix * npix;
    double heat = factors[0], mu0 = factors[1], mu1 = factors[2], dense = factors[3],
           entropic = factors[4];
#pragma omp parallel num_threads(threads)
    {
        double *own = calloc(size, sizeof *own);
#pragma omp for schedule(static) nowait
        for (long i = 0; i < n; i++) {
            double d[3];
            for (int k = 0; k < 3; k++) {
                d[k] = position[3 * i + k] - center[k];
                d[k] -= box * rint(d[k] / box);
            }
            double x = r[0] * d[0] + r[1] * d[1] + r[2] * d[2];
            double y = r[3] * d[0] + r[4] * d[1] + r[5] * d[2];
            if (!(x >= -half && x < half && y >= -half && y < half))
                continue;
            int ix = (int)((x + half) / (2 * half) * npix);
            int iy = (int)((y + half) / (2 * half) * npix);
            if (ix > npix - 1)
                ix = npix - 1;
            if (iy > npix - 1)
                iy = npix - 1;
            double t = heat * energy[i] / (mu0 + mu1 * electrons[i]);
            double c = cbrt(dense * density[i] * electrons[i]);
            double *pixel = own + 3L * (ix * npix + iy);
            pixel[0] += entropic * t / (c * c);
            pixel[1] += mass[i];
            pixel[2] += log10(t);
        }
#pragma omp critical
        for (long k = 0; k < size; k++)
            image[k] += own[k];
        free(own);
    }
}

/* Reads every byte once, for the bandwidth of the machine. */
double read_all(const double *values, long n, int threads)
{
    double total = 0;
#pragma omp parallel for simd reduction(+ : total) schedule(static) num_threads(threads)
    for (long i = 0; i < n; i++)
        total += values[i];
    return total;
}
