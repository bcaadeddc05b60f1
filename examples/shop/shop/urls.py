"""Which page answers which path."""

from django.contrib import admin
from django.urls import path

from catalog import views

urlpatterns = [
    path("", views.product_list, name="products"),
    path("order/", views.order, name="order"),
    path("orders/", views.order_list, name="orders"),
    path("healthz", views.healthz, name="healthz"),
    path("admin/", admin.site.urls),
]
